"""How each class and group fared, what is taken for what, what a shift of style costs: of classification's records."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot

from pocketclip.evaluate.class_sets import class_set, set_names
from pocketclip.records import ClassScore, EvalResult, Interval, percent

MOST_IN_PICTURE = 20
"""Classes above which a picture of all answers could not be read."""
_SHOWN = 10
CLASS_COLUMNS = ("class", "images", "top-1", "most often taken for")
GROUP_COLUMNS = ("group", "images", "top-1", "top-5")
SHIFT_COLUMNS = ("set", "top-1", "below")


@dataclass(frozen=True)
class Cell:
    """How many of a class's images got an answer."""

    count: int
    share: float
    """Of the images of the class."""
    is_right: bool


@dataclass(frozen=True)
class ClassPage:
    """What a page shows of one record."""

    rows: list[list[str]]
    """Each class, as in `CLASS_COLUMNS`, the hardest first."""
    pairs: list[list[str]]
    """What is most often taken for what."""
    names: list[str]
    picture: list[list[Cell]]
    """A row a class, a column an answer; empty where there are too many."""


def class_page(result: EvalResult) -> ClassPage | None:
    """What a record says of its classes; None where it says nothing."""
    classes = result.classes
    if len(classes) < 2:
        return None
    there = [own for own in classes if own.top1_accuracy is not None]
    rows = [_row(classes, own) for own in sorted(there, key=lambda own: own.top1_accuracy or 0)]
    number_of = {id(own): number for number, own in enumerate(classes)}
    wrong = sorted(
        (
            (count, own, classes[answer])
            for own in there
            for answer, count in own.answers
            if answer != number_of[id(own)]
        ),
        key=lambda pair: -pair[0],
    )
    pairs = [[f"{own.name} → {taken.name}", f"{count:,} of {own.num_images:,}"] for count, own, taken in wrong[:_SHOWN]]
    picture = [_cells(own, number, len(classes)) for number, own in enumerate(classes)]
    few = len(classes) <= MOST_IN_PICTURE
    return ClassPage(rows, pairs, [own.name for own in classes], picture if few else [])


def group_rows(result: EvalResult) -> list[list[str]]:
    """Each group that an image is of, as in `GROUP_COLUMNS`, the one that fares worst first."""
    there = [own for own in result.groups if own.top1_accuracy is not None]
    return [
        [
            own.name if own.counts else f"{own.name} (not for the worst)",
            f"{own.num_images:,}",
            percent(own.top1_accuracy or 0.0),
            "" if own.top5_accuracy is None else percent(own.top5_accuracy),
        ]
        for own in sorted(there, key=lambda own: own.top1_accuracy or 0.0)
    ]


def _row(classes: Sequence[ClassScore], own: ClassScore) -> list[str]:
    taken = [f"{classes[answer].name} ({count:,})" for answer, count in own.answers if classes[answer] is not own]
    return [own.name, f"{own.num_images:,}", percent(own.top1_accuracy or 0.0), ", ".join(taken[:2])]


def _cells(own: ClassScore, number: int, size: int) -> list[Cell]:
    counts = dict(own.answers)
    return [
        Cell(counts.get(answer, 0), counts.get(answer, 0) / max(1, own.num_images), answer == number)
        for answer in range(size)
    ]


@dataclass(frozen=True)
class Shift:
    """One set, as its own score and as it stands to the set that it is a shift of."""

    base: str
    """Title of the set that the others are compared with."""
    rows: list[list[str]]
    """As in `SHIFT_COLUMNS`."""


def shifts(results: Sequence[EvalResult]) -> Shift | None:
    """What the robustness sets among the records lose against the set that they vary; None where there are not both.

    Only records of the same templates are compared. The images differ, so a gap's interval adds those of its ends.
    """
    asked = {own.protocol.name: own for own in results if own.protocol is not None and own.protocol.name in set_names()}
    rows, base = [], ""
    for name, result in asked.items():
        whole = asked.get(class_set(name).shift_of)
        if whole is None or whole.protocol is None or result.protocol is None:
            continue
        if whole.protocol.templates != result.protocol.templates:
            continue
        first, second = whole.metrics.get("top1_accuracy"), result.metrics.get("top1_accuracy")
        if isinstance(first, Interval) and isinstance(second, Interval):
            base = class_set(whole.protocol.name).title
            rows.append([class_set(name).title, second.percent(), _gap(first, second).percent()])
    return Shift(base, rows) if rows else None


def _gap(first: Interval, second: Interval) -> Interval:
    value = first.value - second.value
    return Interval(
        value=value,
        low=value - hypot(first.value - first.low, second.high - second.value),
        high=value + hypot(first.high - first.value, second.value - second.low),
    )
