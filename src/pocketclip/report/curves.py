"""The curves of a training run, from its metrics: losses and validation scores, beside what guessing would give."""

from collections.abc import Sequence
from pathlib import Path

from pocketclip.evaluate.tasks import EmbeddingTask, task_kinds, task_of
from pocketclip.records import EvalResult
from pocketclip.report.plot import line_plot
from pocketclip.train.metrics import read_metrics


def training_plots(folder: Path, evaluations: Sequence[EvalResult]) -> list[tuple[str, str]]:
    """Title and SVG of each plot; the validation split's record says what chance is there."""
    shown = {"loss": ("Loss", "training"), "val_loss": ("Loss", "validation")}
    for task in (kind() for kind in task_kinds().values() if issubclass(kind, EmbeddingTask)):
        what, labels = task.curves
        shown |= {key: (f"Validation {what}", label) for key, label in labels.items()}
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {title: {} for title, _ in shown.values()}
    offset, last, stage = 0.0, 0.0, ""
    for row in read_metrics(folder):
        if row["stage"] != stage:  # stages follow each other on one axis
            offset, stage = offset + last, row["stage"]
        last = row["epoch"]
        for key, (title, label) in shown.items():
            if key in row:
                curves[title].setdefault(label, []).append((offset + row["epoch"], row[key]))
    chances = _chances(evaluations)
    return [
        (
            title,
            line_plot(
                own,
                title=title,
                x_label="epoch",
                y_label="loss" if title == "Loss" else "%",
                percent=title != "Loss",
                level=chances.get(title),
            ),
        )
        for title, own in curves.items()
        if own
    ]


def _chances(evaluations: Sequence[EvalResult]) -> dict[str, tuple[str, float]]:
    """By a plot's title, what guessing gives on the validation split, and a name for it."""
    chances = {}
    for result in evaluations:
        task = task_of(result)
        if result.split == "val" and isinstance(task, EmbeddingTask) and (chance := task.chance(result)):
            what, labels = task.curves
            score, share = chance
            is_of_all = all(score in label for label in labels.values())
            chances[f"Validation {what}"] = ("by chance" if is_of_all else f"{score} by chance", share)
    return chances
