"""Classes of the examples of a source, which a classifier is trained and measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketclip.data.source import Gift, Source
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.files import write_atomically

NO_LABEL = -1
CLASS_NAMES_FILE = "classnames.txt"


@dataclass(frozen=True)
class Labels:
    """The classes of N examples."""

    place: str
    """Where they come from, for messages."""
    values: npt.NDArray[np.int64]
    """(N,), a class's number, or NO_LABEL."""
    names: tuple[str, ...] | None = None

    @property
    def occurring(self) -> dict[int, str]:
        """What each class that an example is of is called, by its number."""
        numbers = np.unique(self.values[self.values != NO_LABEL]).tolist()
        return {number: str(number) if self.names is None else self.names[number] for number in numbers}


@dataclass(frozen=True)
class Classes:
    """The classes of examples to learn from and of others to be tested on, numbered alike."""

    class_names: tuple[str, ...]
    train: npt.NDArray[np.int64]
    """(N,), a class's number in `class_names`, or NO_LABEL."""
    test: npt.NDArray[np.int64]
    candidates: npt.NDArray[np.int64]
    """(K,), ascending, the classes that a test example may be of: where both parts name theirs, those that both do."""
    unnamed: tuple[str, ...] = ()
    """Places of the parts that name no classes, for which both are matched by number."""


def read_labels(source: Source) -> Labels:
    """The class of every sample of a source, at least one of which has one; NO_LABEL where it cannot be read."""
    values = np.full(len(source), NO_LABEL, np.int64)
    for index in range(len(source) if "classes" in source.gives else 0):
        try:
            label = source.label(index)
        except BrokenItemError:
            continue
        values[index] = NO_LABEL if label is None or label < 0 else label
    if not (values != NO_LABEL).any():
        raise UserError(
            f'{source.name}: no image has a class. Classes come from KEY.cls or "label" in the JSON of '
            "webdataset:SHARDS, from one folder a class with folder:DIR,classes=folders, and from a column of a table "
            "with csv:FILE,label=COLUMN."
        )
    names = source.class_names
    if names is not None and values.max() >= len(names):
        raise UserError(f"{source.name}: class {values.max()} has no name; {CLASS_NAMES_FILE} has {len(names)} lines.")
    return Labels(source.name, values, names)


def match_classes(train: Labels, test: Labels) -> Classes:
    """Number the classes of two parts alike: by their names where both have some, else as they are numbered.

    A test part may name fewer classes, as ImageNet-A and -R do: then only those are answers. A single class to learn is
    a UserError, and so is one of the test part that the training part has not.
    """
    unnamed = tuple(part.place for part in (train, test) if part.names is None)
    if unnamed:
        train, test = Labels(train.place, train.values), Labels(test.place, test.values)
    names = tuple(train.occurring.values())
    if len(names) < 2:
        raise UserError(
            f"{train.place}: every example is of one class ({', '.join(names)}); a probe needs two or more."
        )
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise UserError(f"{train.place}: several classes are called {', '.join(twice)}; names should differ.")
    place = {name: number for number, name in enumerate(names)}
    if unknown := [name for name in test.occurring.values() if name not in place]:
        shown = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        raise UserError(f"{test.place}: no example of class {shown} is in the training data {train.place}.")
    named = names if test.names is None else test.names
    candidates = np.array(sorted({place[name] for name in named if name in place}), np.int64)
    return Classes(names, _renumber(train, place), _renumber(test, place), candidates, unnamed)


def _renumber(labels: Labels, place: dict[str, int]) -> npt.NDArray[np.int64]:
    new = {number: place[name] for number, name in labels.occurring.items()}
    return np.array([new.get(value, NO_LABEL) for value in labels.values.tolist()], dtype=np.int64)


def read_class_names(folder: Path) -> tuple[str, ...] | None:
    """The lines of `classnames.txt` in a folder of shards; None where there is no such file."""
    file = folder / CLASS_NAMES_FILE
    if not file.is_file():
        return None
    text = file.read_bytes().decode("utf-8-sig", "surrogateescape")  # folders that are classes may be called anything
    names = [line.strip() for line in text.rstrip().split("\n")]
    if not names or not all(names):
        raise UserError(f"{file}: should name a class a line, and has an empty one.")
    return tuple(names)


def write_class_names(folder: Path, source: Source, name: str) -> None:
    """Write a source's `classnames.txt` beside its shards `NAME-*.tar`, if it names classes.

    The file is of all shards in a folder: a UserError says that those there have other classes, or where a name cannot
    stand in a line.
    """
    file, names, there = folder / CLASS_NAMES_FILE, source.class_names, read_class_names(folder)
    if there is not None and there != names and "classes" in source.gives:
        here = "no names" if names is None else f"{len(names)}, from {names[0]} to {names[-1]}"
        raise UserError(
            f"{file}: names {len(there)} classes, from {there[0]} to {there[-1]}, which are not those of {source.name} "
            f"({here}); choose another --out."
        )
    if names is None or there is not None:
        return
    if any(not shard.name.startswith(f"{name}-") for shard in folder.glob("*.tar")):
        raise UserError(f"{folder}: holds shards whose classes have no names; choose another --out.")
    for label in names:
        if not label or label != label.strip() or "\n" in label:
            raise UserError(f"{source.name}: class {label!r} cannot stand in a line of {file}; give it another name.")
    write_atomically(file, "".join(f"{label}\n" for label in names).encode(errors="surrogateescape"))


@dataclass(frozen=True)
class LabelColumn:
    """The classes of samples as a table writes them: numbers as they are, else names in the order of the alphabet."""

    values: Sequence[int | None]
    names: tuple[str, ...] | None

    @classmethod
    def read(cls, written: Sequence[str | None]) -> "LabelColumn":
        """From one cell a sample, None or empty where there is no class."""
        there = {text for text in written if text}
        if all(text.isascii() and text.isdecimal() for text in there):
            return cls([int(text) if text else None for text in written], None)
        names = tuple(sorted(there))
        place = {name: number for number, name in enumerate(names)}
        return cls([place[text] if text else None for text in written], names)


class LabelledSource(Source):
    """A source whose classes and identities stand in columns of its table, where it has them."""

    classes: LabelColumn | None
    identities: Sequence[str | None]
    """Of each sample; empty where there are none."""

    @property
    def gives(self) -> frozenset[Gift]:
        return super().gives | ({"classes"} if self.classes is not None else set())

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return None if self.classes is None else self.classes.names

    def label(self, index: int) -> int | None:
        return None if self.classes is None else self.classes.values[index]

    @property
    def has_identities(self) -> bool:
        return bool(self.identities)

    def identity(self, index: int) -> str | None:
        return self.identities[index] if self.identities else None

    def label_stamp(self) -> list[Any]:
        """What the columns add to a stamp; nothing where there are none, so that older fingerprints stay."""
        classes = [] if self.classes is None else [list(self.classes.values), self.classes.names]
        return [*classes, *([{"identities": list(self.identities)}] if self.identities else [])]


def number_texts(place: str, texts: Sequence[str]) -> Labels:
    """Labels from the classes' own names, which are numbered in the order of the alphabet."""
    names, values = np.unique(np.array(texts, dtype=object), return_inverse=True)
    return Labels(place, values.astype(np.int64), tuple(names.tolist()))
