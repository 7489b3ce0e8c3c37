"""Results in the form of CLIP_benchmark's files, for scripts that read those.

https://github.com/LAION-AI/CLIP_benchmark: one JSON object a file, with its names of tasks and metrics.
"""

import json
from pathlib import Path
from typing import Any

from pocketclip.config import digest
from pocketclip.data.keys import safe_key
from pocketclip.evaluate.items import asked_settings
from pocketclip.files import make_folder_of, write_atomically
from pocketclip.records import EvalResult, Interval

_RECALLS = {
    f"{ours}_recall@{k}": f"{theirs}_recall@{k}"
    for ours, theirs in (("text_to_image", "image_retrieval"), ("image_to_text", "text_retrieval"))
    for k in (1, 5, 10)
}
_ACCURACIES = {"top1_accuracy": "acc1", "top5_accuracy": "acc5", "mean_class_accuracy": "mean_per_class_recall"}
FORMS = {
    "retrieval": ("zeroshot_retrieval", _RECALLS),
    "zero_shot": ("zeroshot_classification", _ACCURACIES),
    "linear_probe": ("linear_probe", {"top1_accuracy_embedding": "lp_acc1"}),
}
"""Of each of our tasks that CLIP_benchmark has, too, its name there and those of the metrics. Their probe learns from
what the whole image tower gives, projection included, which is our embedding."""


def clip_benchmark(result: EvalResult) -> dict[str, Any] | None:
    """One of its objects; None for a task that it has not."""
    if result.task not in FORMS:
        return None
    task, names = FORMS[result.task]
    values = {name: own.value if isinstance(own, Interval) else own for name, own in result.metrics.items()}
    model, pretrained = _model_and_weights(result.model or "")
    return {
        "dataset": result.dataset,
        "model": model,
        "pretrained": pretrained,
        "task": task,
        "metrics": {theirs: values[ours] for ours, theirs in names.items() if ours in values},
        "language": "en",
    }


def write_clip_benchmark(folder: Path, result: EvalResult) -> Path | None:
    """Write one of its files, another one for another setting of what is asked; None for a task that it has not."""
    values = clip_benchmark(result)
    if values is None:
        return None
    parts = [values[key] for key in ("dataset", "pretrained", "model", "language", "task")]
    name = "_".join(safe_key(Path(part).name)[:40] for part in parts if part)
    asked = asked_settings(result)
    path = folder / f"{name}-{digest([*parts, *([asked] if asked else [])])[:6]}.json"
    make_folder_of(path, elsewhere="--clip-benchmark")
    write_atomically(path, json.dumps(values) + "\n", elsewhere="--clip-benchmark")
    return path


def _model_and_weights(name: str) -> tuple[str, str]:
    """As `--model` and `--pretrained` there: `open_clip:NAME/PRETRAINED` has both, others are one place."""
    prefix, _, rest = name.partition(":")
    if prefix == "open_clip" and "/" in rest:
        model, _, weights = rest.partition("/")
        return model, weights
    return name, ""
