"""What every data source gives: samples by number, so that order, splits and resuming need no stream position."""

import hashlib
import re
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pocketclip.config import digest
from pocketclip.data.sources.reinforcement import ReinforcedData
from pocketclip.errors import BrokenItemError, UserError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})


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


Gift = Literal["captions", "classes", "pairs", "stored_views", "identities"]
"""What a source may give beside images, which an objective or a task may ask for."""


@dataclass(frozen=True)
class Pairs:
    """P examples of two images: samples 2 p and 2 p + 1 are the left and the right one of example p.

    The only caption of either is the example's sentence.
    """

    labels: npt.NDArray[np.bool_]
    """(P,), whether the sentence is true."""
    sentences: npt.NDArray[np.int64]
    """(P,), equal for examples of one sentence, which are consistent where all are judged rightly."""


class Source(ABC):
    """A data set on disk, opened. Reading is safe from many processes.

    What a source has beside images and captions, it says by overriding one of the properties that are None here.
    """

    name: str
    """How a user would write it, for records and messages."""
    images_per_example: int = 1
    """Samples that follow each other by this number stay in one batch, such as each other's hard negatives."""

    @property
    def gives(self) -> frozenset[Gift]:
        """What may be asked of it."""
        further: dict[Gift, object] = {"classes": self.class_names, "pairs": self.pairs, "stored_views": self.stored}
        return frozenset[Gift]({"captions"}) | {gift for gift, value in further.items() if value is not None}

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Read one sample; BrokenItemError where this one cannot be read, while others can."""

    @abstractmethod
    def captions(self, index: int) -> tuple[str, ...]:
        """One sample's captions without its image, which is often much cheaper; BrokenItemError as above."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes when the data change; cached features hang on it."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Name of each class by its number; None where classes are only numbered, or there are none."""
        return None

    def label(self, index: int) -> int | None:
        """One sample's class without its image; None where it has none, BrokenItemError where it cannot be read."""
        del index
        return None

    @property
    def pairs(self) -> Pairs | None:
        """What is true of examples of two images; None where images are single."""
        return None

    @property
    def stored(self) -> ReinforcedData | None:
        """Views and teachers' features of each sample; None where the data are not reinforced."""
        return None


@dataclass(frozen=True)
class Subset(Source):
    """Some samples of a source, in the given order; examples of several images may be torn apart."""

    source: Source
    indices: npt.NDArray[np.int64]
    name: str

    @property
    def gives(self) -> frozenset[Gift]:
        return self.source.gives - {"pairs"}

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.source[int(self.indices[index])]

    def captions(self, index: int) -> tuple[str, ...]:
        return self.source.captions(int(self.indices[index]))

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.source.class_names

    def label(self, index: int) -> int | None:
        return self.source.label(int(self.indices[index]))

    @property
    def stored(self) -> ReinforcedData | None:
        return None if self.source.stored is None else self.source.stored.part(self.indices)

    def fingerprint(self) -> str:
        return digest([self.source.fingerprint(), self.indices.tolist()])


def clean_captions(captions: Sequence[str]) -> tuple[str, ...]:
    """Captions without surrounding blanks; empty ones are dropped, and halves of a cut emoji become `?`."""
    stripped = (" ".join(caption.encode(errors="replace").decode().split()) for caption in captions)
    return tuple(caption for caption in stripped if caption)


def caption_id(caption: str) -> int:
    """A 63-bit number, equal for captions that differ only in case and closing punctuation."""
    text = caption.lower().rstrip(" .!").encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


def readable_captions(source: Source, indices: Iterable[int] | None = None) -> Iterator[tuple[str, ...]]:
    """The captions of each sample, or of those by number, in order; none for a broken one."""
    for index in range(len(source)) if indices is None else indices:
        try:
            yield source.captions(index)
        except BrokenItemError:
            yield ()


def hold_out(source: Source, share: float) -> tuple[Source, Source]:
    """The larger part, and a share of the images held out for validation, the same ones on every machine.

    An image's place depends on its number alone, so both parts are spread over the whole source. At least one image
    is held out, and at most half of them; fewer than 4 are a UserError.
    """
    rest, held = held_out_numbers(source.name, len(source), share, "image(s)", "data.val a source")
    return Subset(source, rest, f"{source.name} (training part)"), Subset(source, held, f"{source.name} (held out)")


def held_out_numbers(
    name: str, count: int, share: float, things: str, instead: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Numbers below `count` that stay and that are held out, both ascending; see `hold_out`.

    Where there are too few, the error tells `name` and the `things` counted, and says to give `instead`.
    """
    if count < 4:
        raise UserError(f"{name}: {count} {things} are too few to hold some out; give {instead}.")
    order = np.random.default_rng(0).permutation(count)
    num_held = min(count // 2, max(1, round(count * share)))
    return np.sort(order[num_held:]), np.sort(order[:num_held])


def safe_key(text: str) -> str:
    """A key that is safe as a file name and as a WebDataset key: no dots, slashes or blanks."""
    return re.sub(r"[^\w-]", "_", text)[:200] or "_"


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

    def as_unique_keys(self) -> "PackedTexts":
        """`unique_keys` of safe keys; empty ones stay so. It takes an object a key only where two are alike."""
        hashes = np.fromiter((hash(key) for key in self if key), np.int64)
        if len(np.unique(hashes)) == len(hashes):
            return self
        unique = iter(unique_keys([key for key in self if key]))
        return PackedTexts(next(unique) if key else "" for key in self)
