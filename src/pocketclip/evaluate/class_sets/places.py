"""Which class of a named set each class of a source is: by the names of its folders, by words, or by number."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pocketclip.data.labels import NO_LABEL
from pocketclip.data.source import Source
from pocketclip.errors import UserError
from pocketclip.evaluate.class_sets import ClassSet, class_set, set_names
from pocketclip.evaluate.class_sets.words import key

Ids = npt.NDArray[np.int64]
DEPTH = 3
"""Folders above an image that may be its class together."""


def place_by_number(place: str, labels: Ids, chosen: ClassSet, name: str) -> Ids:
    """(N,) labels of a source that names no classes: they are numbered as the set's are."""
    most = int(labels.max())
    if most >= len(chosen.group_names):
        raise UserError(f"{place}: has a class number {most}; {name} has {len(chosen.group_names):,}, from 0.")
    return labels


def places_of(place: str, own: Sequence[str], chosen: ClassSet, name: str, *, allow_missing: bool) -> Ids:
    """(K,) of K classes as a source calls them the number of each in a set; NO_LABEL where the set does not ask for it.

    Raises:
        UserError: a class is none of the set's, or one of the set's is missing.
    """
    found = _find(own, chosen, partly=allow_missing)
    unknown = [what for what, number in zip(own, found, strict=True) if number == NO_LABEL]
    if len(unknown) == len(own) or (unknown and not chosen.more_folders):
        raise UserError(_none_of_the_set(place, own, unknown, name))
    missing = sorted(set(range(len(chosen.group_names))) - set(found))
    named = chosen.folders or chosen.group_names
    missing = [number for number in missing if named[number] not in chosen.optional]
    if missing and not allow_missing:
        shown = ", ".join(named[number] for number in missing[:3]) + (", ..." if len(missing) > 3 else "")
        kinds = _sets_of(own)
        cure = (
            f"its classes are those of --set protocol={kinds[0]}"
            if kinds
            else "give the whole set, or ask for what is there with --set missing_classes=allowed"
        )
        raise UserError(
            f"{place}: has {len(own) - len(unknown):,} of the {len(chosen.group_names):,} classes of {name} (not "
            f"{shown}); {cure}."
        )
    return np.array(found, dtype=np.int64)


def _find(own: Sequence[str], chosen: ClassSet, *, partly: bool) -> list[int]:
    """The number in the set of each class of a source; NO_LABEL where it is none of them."""
    size = len(chosen.group_names)
    called: list[set[str]] = [{key(name)} for name in chosen.group_names]
    for number, folder in enumerate(chosen.folders):
        called[number].add(key(folder))
    if len(own) == size and all(key(what) in called[number] for number, what in enumerate(own)):
        return list(range(size))  # in order, which tells classes of one name apart
    by_key: dict[str, int] = {}
    for number, keys in enumerate(called):
        for one in keys:
            by_key.setdefault(one, number)
    found = [by_key.get(key(what), NO_LABEL) for what in own]
    if NO_LABEL in found and all(what.isdecimal() for what in own):
        numbers = [int(what) for what in own]
        for first in (0, 1):
            if sorted(numbers) == list(range(first, first + size)):
                return [number - first for number in numbers]
        if partly and max(numbers) < size:
            return numbers
    return found


def _sets_of(own: Sequence[str]) -> list[str]:
    """Sets that have these classes and no others."""
    keys = {key(what) for what in own}
    sets = {name: class_set(name) for name in set_names()}
    return [
        name
        for name, one in sets.items()
        if keys in ({key(folder) for folder in one.folders}, {key(group) for group in one.group_names})
    ]


def _none_of_the_set(place: str, own: Sequence[str], unknown: Sequence[str], name: str) -> str:
    shown = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
    count, size = len(unknown), len(class_set(name).group_names)
    kinds = _sets_of(own)
    cure = f" Its classes are those of --set protocol={kinds[0]}." if kinds else ""
    return f"{place}: {count:,} of its {len(own):,} classes ({shown}) are none of the {size:,} of {name}.{cure}"


def nested_labels(source: Source, chosen: ClassSet) -> tuple[Ids, list[str]]:
    """(N,) classes of images that lie in folders in folders, and all ways that were met.

    The class is the longest way above the image that is one of the set's.
    """
    numbers = {key(folder): number for number, folder in enumerate(chosen.folders)}
    labels = np.full(len(source), NO_LABEL, np.int64)
    for index in range(len(source)):
        folders = source.place(index).replace("\\", "/").split("/")[:-1]
        for depth in range(min(DEPTH, len(folders)), 0, -1):
            number = numbers.get(key("".join(folders[-depth:])))
            if number is not None:
                labels[index] = number
                break
    return labels, sorted({chosen.folders[number] for number in np.unique(labels[labels != NO_LABEL]).tolist()})
