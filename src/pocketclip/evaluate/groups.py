"""Scores of groups of images, such as regions of the world or levels of income, and of the worst of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from pocketclip.data.labels import NO_LABEL
from pocketclip.data.source import Source
from pocketclip.errors import BrokenItemError, UserError, unknown_choice
from pocketclip.evaluate.classification import TOP
from pocketclip.evaluate.statistics import bootstrap_statistic
from pocketclip.records import GroupScore, Interval, percent

Ids = npt.NDArray[np.int64]
WORST = {"worst_group_accuracy": 1, "worst_group_top5_accuracy": 5}
"""Metrics, by how many of the first answers may be the right one."""
MOST_SHOWN = 12


@dataclass(frozen=True)
class Groups:
    """Which group each of N images is of."""

    key: str
    """What groups them, such as `region`."""
    numbers: Ids
    """(N,), NO_LABEL where an image is of none."""
    names: tuple[str, ...]
    """(G,)."""
    counted: npt.NDArray[np.bool_]
    """(G,), whether the worst is looked for among them."""

    def of(self, indices: Ids) -> "Groups":
        """The same of some of the images."""
        return replace(self, numbers=self.numbers[indices])

    @property
    def notes(self) -> list[str]:
        """Images of no group, and groups that cannot be the worst."""
        without = int((self.numbers == NO_LABEL).sum())
        notes = [f"{without:,} images without a {self.key} are in no group"] if without else []
        sizes = np.bincount(self.numbers[self.numbers != NO_LABEL], minlength=len(self.names)).tolist()
        for name, size, counts in zip(self.names, sizes, self.counted.tolist(), strict=True):
            if size and not counts:
                notes.append(f"{self.key} {name} ({size:,} images) is left out of the worst {self.key}")
        return notes


def read_groups(source: Source, key: str, names: Sequence[str] = (), left_out: Sequence[str] = ()) -> Groups:
    """The groups that a source's metadata tell by a key: names, or numbers, which `names` may name from 0 on.

    Raises:
        UserError: no image has one, a number has no name, or a group to leave out is not there.
    """
    values = [_value(source, index, key) for index in range(len(source))]
    there = {value for value in values if value is not None}
    if not there:
        raise UserError(
            f"{source.name}: no image says its {key}, which --set grouped_by={key} asks for. It comes from a key of "
            f"KEY.json in webdataset:SHARDS or beside a picture in folder:DIR, from the numbers of KEY.npy with "
            f"webdataset:SHARDS,npy={key}, and from a column of a table with csv:FILE,metadata={key}."
        )
    if names:
        number_of: dict[int | str, int] = {name: number for number, name in enumerate(names)}
        number_of |= {number: number for number in range(len(names))}
    else:
        ordered = sorted(there, key=lambda value: (isinstance(value, str), value))
        number_of, names = {value: number for number, value in enumerate(ordered)}, [str(value) for value in ordered]
    for index, value in enumerate(values):
        if value is not None and value not in number_of:
            raise UserError(
                f"{source.place(index)}: {key} {value} is none of the {len(names)} groups that --set group_names "
                f"names ({', '.join(names)}; numbers are from 0 to {len(names) - 1})."
            )
    for name in left_out:
        if name not in names:
            raise UserError(f"--set left_out_groups: {unknown_choice(key, name, names)}")
    numbers = np.array([NO_LABEL if value is None else number_of[value] for value in values], np.int64)
    return Groups(key, numbers, tuple(names), np.array([name not in left_out for name in names]))


def _value(source: Source, index: int, key: str) -> int | str | None:
    """An image's group; None where it has none, as an empty cell and -1 say, or cannot be read."""
    try:
        value = source.metadata(index).get(key)
    except BrokenItemError:
        return None
    if isinstance(value, str):
        text = value.strip()
        value = int(text) if text.isascii() and text.removeprefix("-").isdecimal() else text
    if value is None or value in ("", -1) or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, (str, int)) or isinstance(value, bool) or (isinstance(value, int) and value < 0):
        raise UserError(
            f"{source.place(index)}: {key} {str(value)[:60]!r} is no group; a group is a name, or 0, 1, ..."
        )
    return value


def worst_groups(ranks: Ids, groups: Groups, num_classes: int) -> dict[str, Interval]:
    """Top-1, and top-5 among more than five classes, of the group that fares worst, with 95 % intervals over images.

    Which one is the worst is asked anew in every draw; a group of which no image is drawn is not there.

    Raises:
        UserError: no image is of a group that counts.
    """
    counts = (groups.numbers != NO_LABEL) & groups.counted[groups.numbers]
    if not counts.any():
        raise UserError(f"no image that could be measured is of a {groups.key} that counts.")
    own, size = groups.numbers[counts], len(groups.names)

    def worst(hits: npt.NDArray[np.bool_], times: npt.NDArray[np.float64]) -> float:
        images = np.bincount(own, times, minlength=size)
        right = np.bincount(own, times * hits, minlength=size)
        return float((right[images > 0] / images[images > 0]).min())

    hits = {name: ranks[counts] < k for name, k in WORST.items() if k == 1 or num_classes > k}
    return {name: bootstrap_statistic(partial(worst, own_hits), len(own)) for name, own_hits in hits.items()}


def group_scores(ranks: Ids, groups: Groups, num_classes: int) -> list[GroupScore]:
    """How each group fared; groups without an image have no score."""
    scores = []
    for number, name in enumerate(groups.names):
        own = ranks[groups.numbers == number]
        shares = {
            metric: float((own < k).mean()) if len(own) else None
            for metric, k in TOP.items()
            if k == 1 or num_classes > k
        }
        scores.append(GroupScore(name=name, num_images=len(own), counts=bool(groups.counted[number]), **shares))
    return scores


def groups_line(key: str, scores: Sequence[GroupScore]) -> str:
    """The groups that fare worst, with their top-1, in words."""
    there = [(own.top1_accuracy, own) for own in scores if own.top1_accuracy is not None]
    worst = sorted(there, key=lambda pair: pair[0])[:MOST_SHOWN]
    shown = ", ".join(f"{own.name} {percent(share)} (of {own.num_images:,})" for share, own in worst)
    return f"by {key}: {shown}{', ...' if len(there) > len(worst) else ''}"
