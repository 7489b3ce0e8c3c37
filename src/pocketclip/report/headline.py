"""What a page says first, in words: how often a model is right, beside what guessing would give."""

from collections.abc import Sequence

from pocketclip.evaluate.tasks import task_of
from pocketclip.records import EvalResult, Interval
from pocketclip.report.amounts import of_hundred


def headline(results: Sequence[EvalResult]) -> list[str]:
    """Sentences about the result that counts most: that of the test split where there is one.

    Empty where nothing was measured, or the task has no words for its scores.
    """
    spoken = [result for result in results if task_of(result).openings]
    if not spoken:
        return []
    result = min(spoken, key=lambda result: result.split != "test")
    task, chance = task_of(result), task_of(result).chance(result)
    sentences: list[str] = []
    for metric, sentence in task.openings.items():
        if metric in result.metrics:
            guessing = f"; by chance {of_hundred(chance[1])}" if chance and not sentences else ""
            sentences.append(f"{sentence.format(f'{100 * _share(result, metric):.1f}')}{guessing}.")
    return sentences


def comparison_headline(results: Sequence[tuple[str, EvalResult | None]]) -> list[str]:
    """Which of several runs, by name, is right most often; or why that cannot be said."""
    measured = [(name, result) for name, result in results if result is not None and task_of(result).openings]
    if len(measured) < 2:
        return []
    asked = {(own.task, own.dataset, own.split, own.num_images, own.num_captions) for _, own in measured}
    if len(asked) > 1:
        return ["The records name different data: these runs' scores cannot be compared."]
    metric, sentence = next(iter(task_of(measured[0][1]).openings.items()))
    ranked = sorted(measured, key=lambda own: -_share(own[1], metric))
    (best, first), (_, second) = ranked[:2]
    shares = ", ".join(f"{100 * _share(own, metric):.1f} with '{name}'" for name, own in ranked[1:])
    sentences = [f"{sentence.format(f'{100 * _share(first, metric):.1f}')} with '{best}'; {shares}."]
    low, high = first.metrics[metric], second.metrics[metric]
    if isinstance(low, Interval) and isinstance(high, Interval) and low.low <= high.high:
        sentences.append("The intervals of the first two overlap: other pictures could turn their order.")
    return sentences


def _share(result: EvalResult, metric: str) -> float:
    value = result.metrics[metric]
    return value.value if isinstance(value, Interval) else value
