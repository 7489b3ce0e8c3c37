"""Classes of the examples of a source, which a classifier is trained and measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pocketclip.data.source import Source
from pocketclip.data.sources.image_files import read_text
from pocketclip.errors import BrokenItemError, UserError

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

    def name(self, number: int) -> str:
        """What a class is called."""
        return str(number) if self.names is None else self.names[number]


@dataclass(frozen=True)
class Classes:
    """The classes of examples to learn from and of others to be tested on, numbered alike."""

    class_names: tuple[str, ...]
    train: npt.NDArray[np.int64]
    """(N,), a class's number in `class_names`, or NO_LABEL."""
    test: npt.NDArray[np.int64]


def read_labels(source: Source) -> Labels:
    """The class of every sample of a source; NO_LABEL for one that has none or cannot be read.

    Raises:
        UserError: the source knows no classes, none of its samples has one, or a class has no name.
    """
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
            "webdataset:SHARDS, and from one folder a class with folder:DIR,classes=folders."
        )
    names = source.class_names
    if names is not None and values.max() >= len(names):
        raise UserError(f"{source.name}: class {values.max()} has no name; {CLASS_NAMES_FILE} has {len(names)} lines.")
    return Labels(source.name, values, names)


def match_classes(train: Labels, test: Labels) -> Classes:
    """Number the classes of two parts alike: by their names where both have some, else as they are numbered.

    Raises:
        UserError: only one class to learn, or one in the test part that does not occur in the training part.
    """
    if train.names is None or test.names is None:
        train, test = Labels(train.place, train.values), Labels(test.place, test.values)
    numbers = np.unique(train.values[train.values != NO_LABEL]).tolist()
    names = [train.name(number) for number in numbers]
    if len(names) < 2:
        raise UserError(
            f"{train.place}: every example is of one class ({', '.join(names)}); a probe needs two or more."
        )
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise UserError(f"{train.place}: several classes are called {', '.join(twice)}; names should differ.")
    place = {name: number for number, name in enumerate(names)}
    tested = np.unique(test.values[test.values != NO_LABEL]).tolist()
    unknown = [test.name(number) for number in tested if test.name(number) not in place]
    if unknown:
        shown = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        raise UserError(f"{test.place}: no example of class {shown} is in the training data {train.place}.")
    return Classes(
        tuple(names),
        _renumber(train.values, {number: place[train.name(number)] for number in numbers}),
        _renumber(test.values, {number: place[test.name(number)] for number in tested}),
    )


def _renumber(values: npt.NDArray[np.int64], new: dict[int, int]) -> npt.NDArray[np.int64]:
    return np.array([new.get(value, NO_LABEL) for value in values.tolist()], dtype=np.int64)


def read_class_names(folder: Path) -> tuple[str, ...] | None:
    """The lines of `classnames.txt` in a folder of shards; None where there is no such file.

    Raises:
        UserError: it is not UTF-8, or names nothing.
    """
    file = folder / CLASS_NAMES_FILE
    if not file.is_file():
        return None
    names = [line.strip() for line in read_text(file).rstrip().splitlines()]
    if not names or not all(names):
        raise UserError(f"{file}: should name a class a line, and has an empty one.")
    return tuple(names)


def number_texts(place: str, texts: Sequence[str]) -> Labels:
    """Labels from the classes' own names, which are numbered in the order of the alphabet."""
    names, values = np.unique(np.array(texts, dtype=object), return_inverse=True)
    return Labels(place, values.astype(np.int64), tuple(names.tolist()))
