"""The model card: what the model is, what it scored and on how many, how it was made."""

from collections.abc import Mapping

from pocketclip.models.dual_encoder import PARTS, DualEncoder
from pocketclip.recipe import Recipe, dump_recipe
from pocketclip.records import EvalResult, Interval, RunRecord

_HEADER = """---
library_name: pocketclip
pipeline_tag: zero-shot-image-classification
tags:
- clip
- image-text-retrieval
- pocketclip
---
"""


def model_card(
    name: str, recipe: Recipe, record: RunRecord, results: Mapping[str, EvalResult], model: DualEncoder
) -> str:
    """Markdown with the front matter that model hubs read."""
    counts = {part: sum(p.numel() for _, p in model.part_parameters(part)) for part in PARTS}
    scores = _pair_scores(results) if recipe.objective.needs.task == "nlvr2" else _retrieval_scores(results)
    settings = recipe.model
    shared = "" if settings.shared_encoder is None else f", then a shared {settings.shared_encoder.kind}"
    image, text = recipe.model.image_encoder, recipe.model.text_encoder
    return f"""{_HEADER}
# {name}

A dual encoder that finds images by sentence and sentences by image, made with pocketclip.

| part | what | parameters |
|---|---|---|
| image encoder | {image.name}, {image.image_size} px, from: {image.pretrained} | {counts["image_encoder"]:,} |
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

{scores}

The validation split may have been used to choose settings, so its scores are slightly flattering.

## Training

{_data_line(record)} Seed {record.seed}, {record.num_steps} steps, {record.seconds["total"]:.0f} s on
{record.provenance.hardware}. Code {record.provenance.code_version}, {record.provenance.date}.
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


def _retrieval_scores(results: Mapping[str, EvalResult]) -> str:
    rows = [line for split, result in results.items() for line in _score_rows(split, result)]
    return f"""Percent, with 95 % intervals from resampling images. Every caption is a query; an image is found
when any of its captions is; ties count against the model.

| split | images / captions | direction | R@1 | R@5 | R@10 | median rank |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}"""


def _pair_scores(results: Mapping[str, EvalResult]) -> str:
    rows = []
    for split, result in results.items():
        cells = [value.percent() for value in result.metrics.values() if isinstance(value, Interval)]
        rows.append(f"| {split} | {result.num_captions:,} | {' | '.join(cells)} |")
    return f"""Percent, with 95 % intervals from resampling sentences. An example is two images and a sentence, true or
false; a sentence is consistent where all of its examples are judged rightly.

| split | examples | accuracy | consistency |
|---|---|---|---|
{chr(10).join(rows)}"""


def _score_rows(split: str, result: EvalResult) -> list[str]:
    rows = []
    for direction, label in (("text_to_image", "text to image"), ("image_to_text", "image to text")):
        cells = []
        for k in (1, 5, 10):
            value = result.metrics[f"{direction}_recall@{k}"]
            cells.append(value.percent() if isinstance(value, Interval) else f"{100 * value:.1f}")
        rank = result.metrics[f"{direction}_median_rank"]
        cells.append(f"{rank:g}" if isinstance(rank, float) else "")
        counts = f"{result.num_images:,} / {result.num_captions:,}"
        rows.append(f"| {split} | {counts} | {label} | {' | '.join(cells)} |")
    return rows


def _data_line(record: RunRecord) -> str:
    captions = "" if record.num_captions is None else f" and {record.num_captions:,} captions"
    return f"{record.num_images:,} images{captions}."
