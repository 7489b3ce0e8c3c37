"""Pictures of people with descriptions and identities: what the annotation files of person search come down to."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from pocketclip.config import digest
from pocketclip.data.left_out import LeftOut
from pocketclip.data.number_cache import keep_numbers, read_numbers
from pocketclip.data.sample_json import parse_identity
from pocketclip.data.source import Gift, SourceSettings
from pocketclip.data.sources.choice_files import read_entries
from pocketclip.data.sources.image_files import ImageFiles, file_stamp, locate
from pocketclip.data.sources.table import Captions
from pocketclip.errors import UserError

_HEADER = 1 << 16
"""Bytes of a file that tell how large the picture is; in rare ones more does."""


@dataclass(frozen=True, slots=True)
class Described:
    """What an annotation file says of one picture."""

    image: str
    """Its name."""
    captions: Sequence[str]
    identity: str
    split: str | None
    place: str


class PeopleSettings(SourceSettings):
    """Base of the kinds whose file is a JSON list of pictures with `id`, `captions` and `split`."""

    positional: ClassVar[tuple[str, ...]] = ("file", "images", "split")
    places: ClassVar[frozenset[str]] = frozenset({"file", "images"})
    gives: ClassVar[frozenset[Gift]] = frozenset({"captions", "identities"})
    image_key: ClassVar[str] = "file_path"
    """What the file calls a picture's name."""
    kind: str
    file: Path
    images: Path
    split: str = "train"
    """One or more of the file's splits joined by `+`."""

    def read(self) -> ImageFiles:
        """Read the annotations, of which one split gives samples, or several."""
        file, told, rows = locate(self.file), Captions(("captions",)), list[Described]()
        for place, entry in read_entries(file):
            self._check(entry, place)
            identity, split = parse_identity(entry["id"]), str(entry["split"])
            if identity is None:
                raise UserError(f"{place}: its 'id' is empty: nobody knows whom {entry[self.image_key]!r} shows.")
            captions = told.read(entry, place) if split in self.split.split("+") else []
            rows.append(Described(entry[self.image_key], captions, identity, split, place))
        name, written = f"{self.kind}:{self.file}", (f"{self.kind}:{self.file}", f",split={self.split}")
        rows, further = self.told_apart(rows)
        left_out = (*told.left_out, *further)
        return people_files(name, file, locate(self.images), rows, self.split, left_out, written)

    def told_apart(self, rows: list[Described]) -> tuple[list[Described], Sequence[LeftOut]]:
        """Rows in which an identity names one person in the whole file, and what is to be told of that."""
        return rows, ()

    def _check(self, entry: Any, place: str) -> None:
        """A UserError for what is no entry of such a file."""
        keys = ("id", self.image_key, "captions", "split")
        values = entry if isinstance(entry, Mapping) else {}
        wrong = [key for key in keys if key not in values]
        wrong += [key for key in (self.image_key, "split") if key in values and not isinstance(values[key], str)]
        if isinstance(values.get("id"), (bool, float, list, dict)):
            wrong.append("id")
        if wrong:
            shape = f'{{"id": 1, "{self.image_key}": "a/1.jpg", "captions": ["..."], "split": "train"}}'
            raise UserError(f"{place}: not of {self.kind}, whose entries are {shape} (look at {', '.join(wrong)}).")


def people_files(
    name: str,
    file: Path,
    root: Path,
    rows: Sequence[Described],
    split: str | None,
    left_out: Sequence[LeftOut],
    written: tuple[str, str],
) -> ImageFiles:
    """The pictures of a split, or of all where it is None, with captions, identities and `split` among the metadata.

    Raises:
        UserError: there is no such split, an identity is in two of them, or a picture shows two.
    """
    _refuse_shared(file, rows)
    if split is not None:
        wanted, splits = set(split.split("+")), {row.split for row in rows if row.split is not None}
        if not wanted <= splits:
            raise UserError(f"{file}: no split '{split}'. Splits: {', '.join(sorted(splits)) or 'none'}.")
        rows = [row for row in rows if row.split in wanted]
        name += f"#{split}"
    captions, metadata = dict[str, list[str]](), dict[str, dict[str, str]]()
    identities: dict[str, str | None] = {}
    for row in rows:
        captions.setdefault(row.image, []).extend(row.captions)
        if (other := identities.setdefault(row.image, row.identity)) != row.identity:
            raise UserError(f"{row.place}: {row.image} shows {row.identity!r} here and {other!r} above.")
        if row.split is not None:
            metadata[row.image] = {"split": row.split}
    source = ImageFiles.annotated(
        name, file, root, captions, (), written=written, metadata=metadata, identities=identities
    )
    return replace(source, left_out=(*left_out, *_missing(source, root), *_wide(source)))


def _refuse_shared(file: Path, rows: Iterable[Described]) -> None:
    """A UserError for someone in two splits: a model would be tested on people whom it was trained on."""
    first: dict[str, Described] = {}
    shared: dict[str, Described] = {}
    for row in rows:
        if first.setdefault(row.identity, row).split != row.split:
            shared.setdefault(row.identity, row)
    if shared:
        identity, other = next(iter(shared.items()))
        one = first[identity]
        others = f" (and {len(shared) - 1:,} more)" if len(shared) > 1 else ""
        raise UserError(
            f"{file}: identity {identity} is in two splits, {one.split} ({one.image}) and {other.split} "
            f"({other.image}){others}: whom a model is tested on it must not learn from. Move all pictures of an "
            "identity to one split, or number the people of each split on from the last."
        )


def _missing(source: ImageFiles, root: Path) -> list[LeftOut]:
    """Pictures that are named and not there, and people of whom there is none."""
    there = [path.exists() for path in source.paths]
    gone = [str(path) for path, is_there in zip(source.paths, there, strict=True) if not is_there]
    if not gone:
        return []
    found = {who for who, is_there in zip(source.identities, there, strict=True) if is_there}
    lost = [who for who in dict.fromkeys(source.identities) if who is not None and who not in found]
    cure = f"they are looked for in {root.absolute()}"
    told = [LeftOut("pictures are named and missing", len(gone), tuple(gone[:3]), cure)]
    nobody = LeftOut("identities have no picture that is there, so nothing finds them", len(lost), tuple(lost[:3]))
    return [*told, nobody] if lost else told


def _wide(source: ImageFiles) -> list[LeftOut]:
    """Pictures wider than high, which are rarely one person who stands or walks; they stay."""
    name = f"{digest([file_stamp(path) for path in source.paths])}.wide"
    wide = read_numbers(name, len(source), np.int64)
    if wide is None:
        wide = keep_numbers(name, np.array([_is_wide(path) for path in source.paths], np.int64))
    if not (count := int(wide.sum())):
        return []
    first = tuple(str(source.paths[index]) for index in np.flatnonzero(wide)[:3].tolist())
    return [LeftOut("pictures are wider than high, and stay: people are cut out upright", count, first)]


def _is_wide(path: Path) -> bool:
    """By its header; one that cannot be read is a broken item elsewhere."""
    try:
        with path.open("rb") as file, Image.open(io.BytesIO(file.read(_HEADER))) as image:
            return image.width > image.height
    except Exception:  # of any of Pillow's formats
        return False
