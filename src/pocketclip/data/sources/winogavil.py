"""WinoGAViL: a word and several pictures, some of which go with it, https://arxiv.org/abs/2207.12576."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from pocketclip.data.choices import Associations
from pocketclip.data.keys import unique_keys
from pocketclip.data.left_out import LeftOut
from pocketclip.data.source import Gift, SourceSettings
from pocketclip.data.sources.delimited import Row, csv_rows, jsonl_rows
from pocketclip.data.sources.image_files import ImageFiles, join_files, locate
from pocketclip.errors import UserError

COLUMNS = frozenset({"candidates", "cue", "associations"})
SHOWN = 'candidates ["eagle", "teepee", "ash"], cue bald, associations ["eagle", "ash"]'
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Association:
    """A row of the table."""

    place: str
    cue: str
    candidates: tuple[str, ...]
    """Names of pictures."""
    right: tuple[str, ...]
    """Those of them that the cue goes with."""


class WinogavilSourceConfig(SourceSettings):
    """`winogavil:FILE.csv,IMAGES_DIR`."""

    positional: ClassVar[tuple[str, ...]] = ("file", "images")
    places: ClassVar[frozenset[str]] = frozenset({"file", "images"})
    gives: ClassVar[frozenset[Gift]] = frozenset({"associations"})
    kind: Literal["winogavil"] = "winogavil"
    file: Path
    """`winogavil_dataset.csv`, or the same columns as JSON lines."""
    images: Path
    """With the pictures, such as `winogavil_images`; their names need no suffix in the file."""

    def read(self) -> "AssociationFiles":
        """Read the table; an association that names a picture that is not there is left out and told of."""
        file, root, name = locate(self.file), locate(self.images), f"winogavil:{self.file}"
        rows = jsonl_rows(file) if file.suffix.lower() in (".jsonl", ".ndjson") else csv_rows(file)
        every = list(_associations(file, rows))
        if not every:
            raise UserError(f"{file}: no associations here.")
        names = dict.fromkeys(candidate for one in every for candidate in one.candidates)
        found = join_files({candidate: [candidate] for candidate in names}, file, root, (name, ""))
        files = {path: own for path, (_, own) in found.items() if path.is_file()}
        sample_of = {candidate: number for number, own in enumerate(files.values()) for candidate in own}
        there = [one for one in every if not _lost(one, sample_of)]
        left_out = _left_out(every, sample_of, root)
        if not there:
            raise UserError(f"{file}: no association can be asked; {'; '.join(map(str, left_out))}.")
        keys = unique_keys([own[0] for own in files.values()])
        texts: list[tuple[str, ...]] = [()] * len(files)
        return AssociationFiles(name, list(files), texts, keys, left_out, asked=_joined(there, sample_of))


@dataclass(frozen=True)
class AssociationFiles(ImageFiles):
    """Each candidate once, without captions: a word goes with some of its pictures only."""

    asked: Associations | None = None

    @property
    def gives(self) -> frozenset[Gift]:
        return frozenset({"associations"})

    def stamp(self) -> Any:
        assert self.asked is not None
        asked = self.asked
        return [super().stamp(), asked.cues, asked.sizes.tolist(), asked.samples.tolist(), asked.right.tolist()]


def _associations(file: Path, rows: Iterator[tuple[int, Row]]) -> Iterator[Association]:
    for line, row in rows:
        place = f"{file}: line {line}"
        if missing := sorted(COLUMNS - row.keys()):
            raise UserError(f"{place}: no column {', '.join(missing)}; a row of WinoGAViL has {SHOWN}.")
        candidates, right = (_names(row[column], place, column) for column in ("candidates", "associations"))
        cue = row["cue"].strip() if isinstance(row["cue"], str) else ""
        if not cue or len(candidates) < 2:
            raise UserError(f"{place}: needs a cue and two candidates or more, as in {SHOWN}.")
        yield Association(place, cue, candidates, right)


def _names(value: Any, place: str, column: str) -> tuple[str, ...]:
    """A cell's list, which a CSV holds as JSON."""
    try:
        names = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise UserError(f"{place}: {column} should be a list of names, as in {SHOWN} (got {str(value)[:60]!r}).")
    return tuple(name.strip() for name in names)


def _lost(one: Association, sample_of: dict[str, int]) -> list[str]:
    """Names of an association that stand for no picture there is, or for none of its candidates."""
    missing = [name for name in one.candidates if name not in sample_of]
    return [*missing, *(name for name in one.right if name not in one.candidates)]


def _told(one: Association, sample_of: dict[str, int]) -> str:
    return f"{one.place}: {_lost(one, sample_of)[0]!r}"


def _left_out(every: list[Association], sample_of: dict[str, int], root: Path) -> list[LeftOut]:
    """The associations that cannot be asked, by what is wrong with them."""
    lost = [one for one in every if _lost(one, sample_of)]
    stray = [one for one in lost if all(name in sample_of for name in one.candidates)]
    gone = [one for one in lost if one not in stray]
    kinds = (
        (f"associations left out that name a picture that is not in {root}", gone),
        ("associations left out that name none of their candidates", stray),
    )
    return [LeftOut(what, len(own), tuple(_told(one, sample_of) for one in own[:_NAMED])) for what, own in kinds if own]


def _joined(every: list[Association], sample_of: dict[str, int]) -> Associations:
    return Associations(
        tuple(one.cue for one in every),
        np.array([len(one.candidates) for one in every], np.int64),
        np.array([sample_of[name] for one in every for name in one.candidates], np.int64),
        np.array([name in one.right for one in every for name in one.candidates], np.bool_),
    )
