"""Pictures on disk, and the files that say what belongs to them."""

import functools
import gzip
import io
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pocketclip.data.captions import clean_captions
from pocketclip.data.keys import content_id, unique_keys
from pocketclip.data.labels import LabelColumn, LabelledSource
from pocketclip.data.left_out import LeftOut
from pocketclip.data.source import Sample
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.files import did_you_mean, resolve_inside
from pocketclip.preprocess import IMAGE_SUFFIXES

MAX_FILE_BYTES = 256 << 20
"""A picture file larger than this is refused unread."""
MAX_TEXT_BYTES = 4 << 30
"""An annotation file that is larger, unpacked, is refused: a packed one may be a bomb."""
Text = TypeVar("Text")
_LOOKED_AT = 20
"""Pictures that are named first, one of which has to be there."""
_COMPARED = 500
"""Pictures by which the right folder is told from others that hold some of them."""


@dataclass(frozen=True)
class ImageFiles(LabelledSource):
    """Pictures on disk with captions held in memory: what every annotation file comes down to."""

    name: str
    paths: Sequence[Path]
    texts: Sequence[tuple[str, ...]]
    """Captions of each image, as they are written."""
    keys: Sequence[str]
    left_out: Sequence[LeftOut] = ()
    further: Sequence[Mapping[str, Any]] = ()
    """What else the annotations say of each image; empty where they say nothing."""
    classes: LabelColumn | None = None
    identities: Sequence[str | None] = ()

    @classmethod
    def annotated(
        cls,
        name: str,
        file: Path,
        root: Path,
        captions: Mapping[str, Sequence[str]],
        left_out: Sequence[LeftOut] = (),
        *,
        written: tuple[str, str],
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
        classes: Mapping[str, str] | None = None,
        identities: Mapping[str, str | None] | None = None,
    ) -> "ImageFiles":
        """From what an annotation file says: captions by the name of an image, which may not lead out of `root`.

        Names that lead to one file are one image. `written` is what a user writes before and behind the folder of the
        images, for the error where they are elsewhere.
        """
        if not captions:
            raise UserError(f"{file}: no captions here.")
        joined = join_files(captions, file, root, written)
        names = [name for name, _ in joined.values()]
        keys = unique_keys([str(Path(name).with_suffix("")) for name in names])
        further = [metadata.get(name, {}) for name in names] if metadata else ()
        labels = None if classes is None else LabelColumn.read([classes.get(name) for name in names])
        shown = () if identities is None else [identities.get(name) for name in names]
        texts = [tuple(texts) for _, texts in joined.values()]
        return cls(name, list(joined), texts, keys, left_out, further, labels, shown)

    def __post_init__(self) -> None:
        assert len(self.paths) == len(self.texts) == len(self.keys)
        assert len(self.further) in (0, len(self.paths))

    def __len__(self) -> int:
        return len(self.paths)

    def sample(self, index: int) -> Sample:
        path = self.paths[index]
        told = (self.label(index), self.metadata(index), self.identity(index))
        return Sample(self.keys[index], read_file(path), self.captions(index), str(path), *told)

    def key(self, index: int) -> str:
        return self.keys[index]

    def metadata(self, index: int) -> Mapping[str, Any]:
        return self.further[index] if self.further else {}

    def place(self, index: int) -> str:
        return str(self.paths[index])

    def picture_id(self, index: int) -> int:
        return content_id(read_file(self.paths[index]))

    def captions(self, index: int) -> tuple[str, ...]:
        return clean_captions(self.texts[index])

    def stamp(self) -> Any:
        """From captions, file names, sizes and modification times: contents are not read."""
        entries = zip(self.keys, self.texts, self.paths, strict=True)
        stamp: Any = [[key, texts, file_stamp(path)] for key, texts, path in entries]
        stamp = [stamp, [dict(values) for values in self.further]] if self.further else stamp
        return [stamp, *of_labels] if (of_labels := self.label_stamp()) else stamp


def join_files(
    captions: Mapping[str, Sequence[Text]], file: Path, root: Path, written: tuple[str, str]
) -> dict[Path, tuple[str, list[Text]]]:
    """The first name and all captions by the path of each picture: names that lead to one file are one picture.

    Captions may be texts or whatever else belongs to a picture; see `ImageFiles.annotated`.
    """
    joined: dict[str, tuple[Path, str, list[Text]]] = {}
    root, real = _root_of(list(captions)[:_LOOKED_AT], root), functools.cache(os.path.realpath)
    by_stem: dict[str, list[str]] | None = None
    there = 0
    for number, (name, texts) in enumerate(captions.items(), start=1):
        path = resolve_inside(root, name, place=str(file))
        if "\\" in name and not path.exists():
            path = resolve_inside(root, name.replace("\\", "/"), place=str(file))
        elif path.suffix.lower() not in IMAGE_SUFFIXES and not path.exists():
            by_stem = _by_stem(root) if by_stem is None else by_stem
            found = by_stem.get(name, [])
            if len(found) > 1:
                raise UserError(f"{file}: image {name!r} has no suffix and may be {' or '.join(sorted(found))}.")
            path = root / found[0] if found else path
        there += number <= _LOOKED_AT and path.exists()
        if number == min(_LOOKED_AT, len(captions)) and not there:
            raise _elsewhere(list(captions)[:_COMPARED], number, file, root, written)
        folder, last = os.path.split(path)
        whole = os.path.realpath(path) if os.path.islink(path) else os.path.join(real(folder), last)  # noqa: PTH114, PTH118
        joined.setdefault(whole, (path, name, []))[2].extend(texts)
    return {path: (name, texts) for path, name, texts in joined.values()}


def _root_of(names: Sequence[str], root: Path) -> Path:
    """The folder that names are relative to: the one above `root` where all of them begin with its name, and are there.

    So `csv:pairs.csv,photos` reads a table that writes `photos/1.jpg`.
    """
    spelled = [name.replace("\\", "/") for name in names]
    above = root.absolute().parent
    if any((root / name).exists() for name in spelled) or not any((above / name).exists() for name in spelled):
        return root
    return above if all(name.startswith(f"{root.name}/") for name in spelled) else root


def _by_stem(root: Path) -> dict[str, list[str]]:
    """Pictures right inside a folder by their names without suffix."""
    found: dict[str, list[str]] = {}
    for path in root.iterdir() if root.is_dir() else ():
        if path.suffix.lower() in IMAGE_SUFFIXES:
            found.setdefault(path.stem, []).append(path.name)
    return found


def _elsewhere(names: Sequence[str], number: int, file: Path, root: Path, written: tuple[str, str]) -> UserError:
    """The error for pictures that are not in a folder, with the folder near it that holds the most of `names`."""
    below = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    beside = sorted(path for path in file.parent.iterdir() if path.is_dir())
    spelled = [name.replace("\\", "/").lstrip("/") for name in names]
    near: dict[str, Path] = {}
    for folder in (*below, root.absolute().parent, *beside):
        near.setdefault(os.path.realpath(folder), folder)
    held = {folder: sum((folder / name).exists() for name in spelled) for folder in near.values()}
    before, behind = written
    right = max(held, key=lambda folder: held[folder])
    if not held[right]:
        right, cure = Path("IMAGES_DIR"), "Name the folder that they are in"
    else:
        cure = f"{'They' if held[right] == len(names) else f'{held[right]} of them'} are in {right}"
        also = [str(folder) for folder in held if held[folder] == held[right] and folder != right]
        cure += f" (and in {', '.join(also)})" if also else ""
    return UserError(
        f"{file}: none of the first {number} pictures is in {root}, such as {names[number - 1]!r}. "
        f"{cure}: {before},{right}{behind}"
    )


def locate(place: Path) -> Path:
    """A path as given, or where it is relative and not there, below the data folder, so that recipes suit any machine.

    That is `$POCKETCLIP_DATA`, or `data` in the current folder. A UserError names both places where it is in neither.
    """
    if (found := find(place)) is not None:
        return found
    place, root = _expanded(place), Path(os.environ.get("POCKETCLIP_DATA", "data"))
    tried = f"{place}" if place.is_absolute() else f"{place} and {root / place}"
    hint = did_you_mean(place) or did_you_mean(root / place)
    raise UserError(
        f"No such file or folder: {place} (looked at {tried}).{hint} Give the right place, or set POCKETCLIP_DATA to "
        "the folder that holds your data sets."
    )


def find(place: Path) -> Path | None:
    """What `locate` gives; None where it is in neither place."""
    expanded = _expanded(place)
    places = (expanded, Path(os.environ.get("POCKETCLIP_DATA", "data")) / expanded)  # an absolute one stays as it is
    return next((path for path in places if os.path.exists(path)), None)  # noqa: PTH110 (a Path refuses some names)


def _expanded(place: Path) -> Path:
    """With the home folder for `~`; a `~x` that is no user's stays."""
    return Path(os.path.expanduser(place))  # noqa: PTH111


def read_file(path: str | Path) -> bytes:
    """A picture file's bytes; BrokenItemError where it is missing, unreadable or larger than `MAX_FILE_BYTES`."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # half the time that pathlib takes
        try:
            size = os.fstat(handle).st_size
            if size > MAX_FILE_BYTES:
                raise BrokenItemError(f"{path}: {size:,} bytes are over the limit of {MAX_FILE_BYTES:,}.")
            data = os.read(handle, size)
            while len(data) < size and (more := os.read(handle, size - len(data))):
                data += more  # over a network a read may end early
            return data
        finally:
            os.close(handle)
    except OSError as error:
        raise BrokenItemError(f"{path}: cannot read the file ({error.strerror}).") from error


def read_text(path: Path) -> str:
    """An annotation file's text, unpacked from `.gz`; UserError where it is missing or not UTF-8, naming the line.

    UTF-16 is read where a byte order mark tells of it.
    """
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            with gzip.open(io.BytesIO(data)) as file:
                data = file.read(MAX_TEXT_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot read the file ({getattr(error, 'strerror', None) or error}).") from error
    if len(data) > MAX_TEXT_BYTES:
        raise UserError(f"{path}: over the limit of {MAX_TEXT_BYTES:,} bytes unpacked; cut it into several files.")
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}: line {line}: not valid {'UTF-16' if wide else 'UTF-8'} (byte 0x{data[error.start]:02x}). "
            "Save the file as UTF-8."
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(
            f"{path}: line {line}: holds NUL characters, as UTF-16 without a mark does. Save the file as UTF-8: "
            f"iconv -f UTF-16LE -t UTF-8 '{path}' > utf8{path.suffix}"
        )
    return text


def file_stamp(path: str | Path) -> list[object]:
    """Name, size, and the times of the last change of bytes and of anything; the name alone where it is missing.

    The second time tells of bytes that were changed and dated back.
    """
    name = os.path.basename(path)  # noqa: PTH119
    try:
        status = os.stat(path)  # noqa: PTH116 (called for every file, and pathlib doubles its time)
    except OSError:
        return [name]
    return [name, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
