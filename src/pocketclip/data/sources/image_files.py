"""Pictures on disk, and the files that say what belongs to them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketclip.config import digest
from pocketclip.data.source import Sample, Source, clean_captions
from pocketclip.errors import BrokenItemError, UserError

MAX_FILE_BYTES = 256 << 20
"""A picture file larger than this is refused unread."""


@dataclass(frozen=True)
class ImageFiles(Source):
    """Pictures on disk with captions held in memory: what every annotation file comes down to."""

    name: str
    paths: Sequence[Path]
    texts: Sequence[tuple[str, ...]]
    """Captions of each image."""
    keys: Sequence[str]

    def __post_init__(self) -> None:
        assert len(self.paths) == len(self.texts) == len(self.keys)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        return Sample(self.keys[index], read_file(path), self.captions(index), str(path))

    def captions(self, index: int) -> tuple[str, ...]:
        """One image's captions."""
        return clean_captions(self.texts[index])

    def fingerprint(self) -> str:
        """From captions, file names, sizes and modification times: contents are not read."""
        return digest(
            [
                [key, list(texts), file_stamp(path)]
                for key, texts, path in zip(self.keys, self.texts, self.paths, strict=True)
            ]
        )


def locate(place: Path) -> Path:
    """A path as given, or below the data folder where it is relative and not found.

    The data folder is `$POCKETCLIP_DATA`, or `data` in the current folder, so that recipes can name data sets
    without knowing where a machine keeps them.

    Raises:
        UserError: it is in neither place.
    """
    if place.exists():
        return place
    root = Path(os.environ.get("POCKETCLIP_DATA", "data"))
    if not place.is_absolute() and (root / place).exists():
        return root / place
    tried = f"{place}" if place.is_absolute() else f"{place} and {root / place}"
    raise UserError(
        f"No such file or folder: {place} (looked at {tried}). Give the right place, or set POCKETCLIP_DATA to the "
        "folder that holds your data sets."
    )


def read_file(path: Path) -> bytes:
    """A picture file's bytes.

    Raises:
        BrokenItemError: missing, unreadable or larger than `MAX_FILE_BYTES`.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise BrokenItemError(f"{path}: {size:,} bytes are over the limit of {MAX_FILE_BYTES:,}.")
        return path.read_bytes()
    except OSError as error:
        raise BrokenItemError(f"{path}: cannot read the file ({error.strerror}).") from error


def read_text(path: Path) -> str:
    """An annotation file's text.

    Raises:
        UserError: missing, or not UTF-8; the message names the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read the file ({error.strerror}).") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}: line {line}: not valid UTF-8 (byte 0x{data[error.start]:02x}). Save the file as UTF-8."
        ) from error


def file_stamp(path: Path) -> list[object]:
    """Name, size and modification time; the name alone where the file is missing."""
    try:
        status = path.stat()
    except OSError:
        return [path.name]
    return [path.name, status.st_size, status.st_mtime_ns]
