"""What every data source gives: samples by number, so that order, splits and resuming need no stream position."""

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from pocketclip.config import digest
from pocketclip.errors import BrokenItemError, UserError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})
MAX_FILE_BYTES = 256 << 20
"""A picture file larger than this is refused unread."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image, still encoded, with its captions."""

    key: str
    """Unique within the source; safe as a file name."""
    image: bytes
    captions: tuple[str, ...]
    place: str
    """File (and member) to name in errors."""
    label: int | None = None


@runtime_checkable
class Source(Protocol):
    """A data set on disk, opened. Reading is safe from many processes."""

    @property
    def name(self) -> str:
        """How a user would write it, for records and messages."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            BrokenItemError: this item cannot be read; others can.
        """
        ...

    def captions(self, index: int) -> tuple[str, ...]:
        """One sample's captions without its image, which is often much cheaper.

        Raises:
            BrokenItemError: they cannot be read.
        """
        ...

    def fingerprint(self) -> str:
        """Changes when the data change; cached features hang on it."""
        ...


@dataclass(frozen=True)
class ImageFiles:
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


@dataclass(frozen=True)
class Subset:
    """Some samples of a source, in the given order."""

    source: Source
    indices: npt.NDArray[np.int64]
    name: str

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.source[int(self.indices[index])]

    def captions(self, index: int) -> tuple[str, ...]:
        """One image's captions."""
        return self.source.captions(int(self.indices[index]))

    def fingerprint(self) -> str:
        """From the source's own and the chosen numbers."""
        return digest([self.source.fingerprint(), self.indices.tolist()])


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


def clean_captions(captions: Sequence[str]) -> tuple[str, ...]:
    """Captions without surrounding blanks; empty ones are dropped, and halves of a cut emoji become `?`."""
    stripped = (" ".join(caption.encode(errors="replace").decode().split()) for caption in captions)
    return tuple(caption for caption in stripped if caption)


def caption_id(caption: str) -> int:
    """A 63-bit number, equal for captions that differ only in case and closing punctuation."""
    text = caption.lower().rstrip(" .!").encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


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


def readable_captions(source: Source) -> Iterator[tuple[str, ...]]:
    """The captions of each sample in order; none for a broken one."""
    for index in range(len(source)):
        try:
            yield source.captions(index)
        except BrokenItemError:
            yield ()


def hold_out(source: Source, share: float) -> tuple[Source, Source]:
    """Split off a share of the images for validation, the same ones on every machine and in every run.

    An image's place depends on its number alone, so both parts are spread over the whole source.

    Args:
        source: what to split.
        share: of the images, at least one and at most half of them.

    Returns:
        (the larger part, the held-out part).

    Raises:
        UserError: fewer than 4 images.
    """
    count = len(source)
    if count < 4:
        raise UserError(f"{source.name}: {count} image(s) are too few to hold some out; give data.val a source.")
    order = np.random.default_rng(0).permutation(count)
    num_held = min(count // 2, max(1, round(count * share)))
    held, rest = np.sort(order[:num_held]), np.sort(order[num_held:])
    return Subset(source, rest, f"{source.name} (training part)"), Subset(source, held, f"{source.name} (held out)")


def safe_key(text: str) -> str:
    """A key that is safe as a file name and as a WebDataset key: no dots, slashes or blanks."""
    kept = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in text)
    return kept[:200] or "_"


def unique_keys(texts: Sequence[str]) -> list[str]:
    """`safe_key` of each text, with a number behind repeated ones."""
    uses: dict[str, int] = {}
    keys: dict[str, None] = {}
    for text in texts:
        key = wanted = safe_key(text)
        while key in keys:  # more than once where a text already ends in a number
            uses[wanted] = uses.get(wanted, 1) + 1
            key = f"{wanted}-{uses[wanted]}"
        keys[key] = None
    return list(keys)


class PackedTexts:
    """Short texts one behind the other in one block of memory, where a million objects would be too many."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.data, self.ends = bytearray(), array("q", [0])
        for text in texts:
            self.data += text.encode()
            self.ends.append(len(self.data))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __iter__(self) -> Iterator[str]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> str:
        return self.data[self.ends[number] : self.ends[number + 1]].decode()


def unique_packed_keys(keys: PackedTexts) -> PackedTexts:
    """`unique_keys` of safe keys; empty ones stay so. It takes an object a key only where two are alike."""
    hashes = np.fromiter((hash(key) for key in keys if key), np.int64)
    if len(np.unique(hashes)) == len(hashes):
        return keys
    unique = iter(unique_keys([key for key in keys if key]))
    return PackedTexts(next(unique) if key else "" for key in keys)


def file_stamp(path: Path) -> list[object]:
    """Name, size and modification time; the name alone where the file is missing."""
    try:
        status = path.stat()
    except OSError:
        return [path.name]
    return [path.name, status.st_size, status.st_mtime_ns]
