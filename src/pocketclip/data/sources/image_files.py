"""Pictures on disk, and the files that say what belongs to them."""

import gzip
import io
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketclip.data.captions import clean_captions
from pocketclip.data.keys import content_id, unique_keys
from pocketclip.data.source import LeftOut, Sample, Source
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.files import resolve_inside

MAX_FILE_BYTES = 256 << 20
"""A picture file larger than this is refused unread."""
MAX_TEXT_BYTES = 4 << 30
"""An annotation file that is larger, unpacked, is refused: a packed one may be a bomb."""


@dataclass(frozen=True)
class ImageFiles(Source):
    """Pictures on disk with captions held in memory: what every annotation file comes down to."""

    name: str
    paths: Sequence[Path]
    texts: Sequence[tuple[str, ...]]
    """Captions of each image, as they are written."""
    keys: Sequence[str]
    left_out: Sequence[LeftOut] = ()

    @classmethod
    def annotated(
        cls,
        name: str,
        file: Path,
        root: Path,
        captions: Mapping[str, Sequence[str]],
        left_out: Sequence[LeftOut] = (),
    ) -> "ImageFiles":
        """From what an annotation file says: captions by the name of an image, which may not lead out of `root`."""
        if not captions:
            raise UserError(f"{file}: no captions here.")
        paths = [resolve_inside(root, image, place=str(file)) for image in captions]
        keys = unique_keys([str(Path(image).with_suffix("")) for image in captions])
        return cls(name, paths, [tuple(texts) for texts in captions.values()], keys, left_out)

    def __post_init__(self) -> None:
        assert len(self.paths) == len(self.texts) == len(self.keys)

    def __len__(self) -> int:
        return len(self.paths)

    def sample(self, index: int) -> Sample:
        path = self.paths[index]
        return Sample(self.keys[index], read_file(path), self.captions(index), str(path))

    def place(self, index: int) -> str:
        return str(self.paths[index])

    def picture_id(self, index: int) -> int:
        return content_id(read_file(self.paths[index]))

    def captions(self, index: int) -> tuple[str, ...]:
        return clean_captions(self.texts[index])

    def stamp(self) -> Any:
        """From captions, file names, sizes and modification times: contents are not read."""
        entries = zip(self.keys, self.texts, self.paths, strict=True)
        return [[key, texts, file_stamp(path)] for key, texts, path in entries]


def locate(place: Path) -> Path:
    """A path as given, or where it is relative and not there, below the data folder, so that recipes suit any machine.

    That is `$POCKETCLIP_DATA`, or `data` in the current folder. A UserError names both places where it is in neither.
    """
    if (found := find(place)) is not None:
        return found
    place, root = _expanded(place), Path(os.environ.get("POCKETCLIP_DATA", "data"))
    tried = f"{place}" if place.is_absolute() else f"{place} and {root / place}"
    raise UserError(
        f"No such file or folder: {place} (looked at {tried}). Give the right place, or set POCKETCLIP_DATA to the "
        "folder that holds your data sets."
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
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (a third of the time that pathlib takes)
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE_BYTES:
                raise BrokenItemError(f"{path}: {size:,} bytes are over the limit of {MAX_FILE_BYTES:,}.")
            return file.readall()
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
