"""The model card: what the model is, what it scored and on how many, how it was made."""

import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

from pocketclip.cost.parameters import count_by_part
from pocketclip.evaluate.tasks import task_of
from pocketclip.image_size import written
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.recipe import Recipe, dump_recipe
from pocketclip.records import EvalResult, Interval, RunRecord

_TASKS = {
    "retrieval": "image-text-retrieval",
    "retrieval_1k_folds": "image-text-retrieval",
    "zero_shot": "zero-shot-image-classification",
    "linear_probe": "image-classification",
    "fine_tuning": "image-classification",
    "text_probe": "text-classification",
}
"""What model hubs call a task; of others our own word."""


def model_card(
    name: str, recipe: Recipe, record: RunRecord, results: Mapping[str, EvalResult], model: DualEncoder
) -> str:
    """Markdown with the front matter that model hubs read."""
    captions = "" if record.num_captions is None else f" and {record.num_captions:,} captions"
    counts = count_by_part(model)
    settings = recipe.model
    shared = "" if settings.shared_encoder is None else f", then a shared {settings.shared_encoder.kind}"
    image, text = settings.image_encoder, settings.text_encoder
    second = image.second_look if image.kind == "timm" else None
    shown = f"{written(image.image_size)} px" + ("" if second is None else f" and {second.written()}")
    return f"""{_front_matter(name, results)}
# {name}

A dual encoder that finds images by sentence and sentences by image, made with pocketclip.

| part | what | parameters |
|---|---|---|
| image encoder | {image.name}, {shown}, from: {image.pretrained} | {counts["image_encoder"]:,} |
| text encoder | {text.name}, {text.context_length} tokens, from: {text.pretrained} | {counts["text_encoder"]:,} |
| heads | {settings.image_head.kind}, {settings.text_head.kind} to {settings.embed_dim}{shared} | {counts["heads"]:,} |

## Use

```python
import pocketclip
model = pocketclip.load("PATH_OR_NAME")
images = model.encode_image(["a.jpg", "b.jpg"])
texts = model.encode_text(["two dogs in the snow"])
images @ texts.T
```

## Scores

{_scores(results)}
{_notes(record, results)}
The validation split may have been used to choose settings, so its scores are slightly flattering.

## Training

{record.num_images:,} images{captions}. Seed {record.seed}, {record.num_steps} steps, {record.seconds["total"]:.0f} s on
{record.provenance.machine}. Code {record.provenance.code_version}, {record.provenance.date}.
Items left out because they could not be read: {len(record.broken_items)}.

<details><summary>The recipe (hash {record.recipe_hash})</summary>

```yaml
{dump_recipe(recipe).rstrip()}
```

</details>

## Limits

Trained on the data named above and nothing else beyond its pretrained towers: expect little on other kinds of
pictures, other languages, counting, reading text in pictures, and fine differences. Not tested for bias or for use in
decisions about people.
"""


def _front_matter(name: str, results: Mapping[str, EvalResult]) -> str:
    """The YAML that model hubs read, with every score as their `model-index` has it."""
    values = {
        "library_name": "pocketclip",
        "pipeline_tag": "zero-shot-image-classification",
        "tags": ["clip", "image-text-retrieval", "pocketclip"],
        "model-index": [{"name": name, "results": [_measured(split, own) for split, own in results.items()]}],
    }
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---\n"


def _measured(split: str, result: EvalResult) -> dict[str, Any]:
    """A result as an entry of `model-index`; intervals are arguments of their metrics."""
    metrics = []
    for name, score in result.metrics.items():
        metric: dict[str, Any] = {"type": name, "name": name.replace("_", " ")}
        if isinstance(score, Interval):
            bounds = {"low": score.low, "high": score.high}
            metrics.append({**metric, "value": score.value, "args": {"interval": "95 %", **bounds}})
        else:
            metrics.append({**metric, "value": score})
    return {
        "task": {"type": _TASKS.get(result.task, result.task), "name": result.task},
        "dataset": {"name": result.dataset, "type": result.dataset.partition(":")[0], "split": split},
        "metrics": metrics,
    }


def _notes(record: RunRecord, results: Mapping[str, EvalResult]) -> str:
    """What a reader of the scores has to know of the data, as a list."""
    notes = [*record.notes, *(f"{split}: {note}" for split, result in results.items() for note in result.notes)]
    return "".join(f"\n- {note.replace('`', '')}" for note in dict.fromkeys(notes)) + ("\n" if notes else "")


def _scores(results: Mapping[str, EvalResult]) -> str:
    """Every split's scores, a table for each task."""
    tables = []
    for kind in dict.fromkeys(result.task for result in results.values()):
        own = {split: result for split, result in results.items() if result.task == kind}
        task = task_of(next(iter(own.values())))
        columns = ["split", task.counted, *(column.replace("\n", " ") for column in task.columns)]
        rows = [
            [split, task.count(result), row[0].replace("→", "to"), *row[1:]]
            for split, result in own.items()
            for row in task.rows(result)
        ]
        lines = [f"| {' | '.join(cells)} |" for cells in (columns, *rows)]
        lines.insert(1, f"|{'---|' * len(columns)}")
        about = textwrap.fill(f"Percent, with 95 % intervals from resampling {task.unit}. {task.meaning}", 100)
        tables.append(f"{about}\n\n" + "\n".join(lines))
    return "\n\n".join(tables)
