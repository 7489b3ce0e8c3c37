"""Reinforced shards: ordinary WebDataset shards whose samples also carry what teachers make of them.

Beside `KEY.jpg` and `KEY.json` a sample has `KEY.views.json`, its views as numbers, and `KEY.features.npy`, a row for
each view, caption and synthetic caption, in that order, with all teachers side by side. `reinforcement.json` says who
the teachers were. Dataset reinforcement, https://arxiv.org/abs/2303.08983; multi-modal, https://arxiv.org/abs/2311.17049.
"""

import functools
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from pocketclip.config import Config, digest
from pocketclip.data.augment import AugmentConfig, ViewParameters
from pocketclip.data.shards import add_sample, new_shard
from pocketclip.data.source import Sample, clean_captions, locate
from pocketclip.data.webdataset import WebdatasetSource
from pocketclip.errors import BrokenItemError, UserError, unknown_choice
from pocketclip.files import write_atomically

MANIFEST = "reinforcement.json"
VIEWS, FEATURES = "views.json", "features.npy"
StoredType = Literal["bfloat16", "float16"]
Floats = npt.NDArray[np.float32]


class StoredTeacher(Config):
    """A teacher whose features are stored."""

    name: str
    kind: str
    width: PositiveInt
    scale: PositiveFloat
    """Inverse temperature that training uses; nothing stored depends on it, so it may be changed here by hand."""
    image_size: PositiveInt
    mark: str
    """Sixteen hex digits that change with its weights and with the settings that shape its features."""


class StoredShard(Config):
    """One finished shard."""

    file: Annotated[str, Field(pattern=r"^[\w-]+\.tar$")]
    num_samples: NonNegativeInt
    num_captions: NonNegativeInt
    """Synthetic ones not counted."""
    num_bytes: NonNegativeInt
    sha256: str


StoredColumns = tuple[StoredTeacher, slice]
"""A teacher with its columns of a stored row."""


class Manifest(Config):
    """The content of `reinforcement.json`."""

    format_version: Literal[1] = 1
    teachers: Annotated[tuple[StoredTeacher, ...], Field(min_length=1)]
    num_views: PositiveInt
    num_synthetic: NonNegativeInt
    """Synthetic captions asked for; an image has fewer where the captioner left some empty."""
    dtype: StoredType = "bfloat16"
    augment: AugmentConfig
    captioner: dict[str, Any] | None = None
    """How the synthetic captions were made; None without any."""
    seed: NonNegativeInt = 0
    source: str = ""
    source_fingerprint: str = ""
    shards: tuple[StoredShard, ...] = ()
    num_samples: NonNegativeInt = 0
    num_captions: NonNegativeInt = 0
    broken: tuple[str, ...] = ()
    """What was left out, one message each."""
    versions: dict[str, str] = {}

    @property
    def width(self) -> int:
        """Of a stored row: the sum of the teachers' widths."""
        return sum(teacher.width for teacher in self.teachers)

    @property
    def columns(self) -> tuple[slice, ...]:
        """Where each teacher's part of a row lies."""
        ends = np.cumsum([teacher.width for teacher in self.teachers]).tolist()
        return tuple(slice(end - teacher.width, end) for end, teacher in zip(ends, self.teachers, strict=True))

    @property
    def mark(self) -> str:
        """Sixteen hex digits that every sample carries: they change with the teachers and with all that was drawn."""
        teachers = [[teacher.name, teacher.width, teacher.mark] for teacher in self.teachers]
        settings = self.model_dump(mode="json", include={"num_views", "num_synthetic", "dtype", "augment", "captioner"})
        return digest([teachers, settings, self.seed])


@dataclass(frozen=True)
class Reinforcement:
    """What is stored for one sample."""

    views: tuple[ViewParameters, ...]
    """V of them."""
    features: Floats
    """(V + T, W), T the captions and then the synthetic ones, W all teachers' widths; unit length for each teacher."""
    synthetic: tuple[str, ...]
    """Synthetic captions."""


class ReinforcedSourceConfig(Config):
    """`reinforced:DIR` or `reinforced:DIR,teachers=NAME`, a folder that `pocketclip reinforce` wrote."""

    positional: ClassVar[tuple[str, ...]] = ("folder",)
    kind: Literal["reinforced"] = "reinforced"
    folder: str
    teachers: tuple[str, ...] = ()
    """Names of the stored teachers to learn from; empty means all of them."""

    @field_validator("teachers", mode="before")
    @classmethod
    def _one_name(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    def open(self) -> "ReinforcedSource":
        """Read the manifest and index the shards.

        Raises:
            UserError: not a finished reinforced folder, a shard is missing, cut off or from another one, or no such
                teacher is stored.
        """
        folder = locate(Path(self.folder))
        manifest = read_manifest(folder)
        for shard in manifest.shards:
            check_shard(folder, shard)
        source = ReinforcedSource(f"reinforced:{self.folder}", folder, manifest)
        if self.teachers:
            source.choose(self.teachers)
        return source


def read_manifest(folder: Path) -> Manifest:
    """A reinforced folder's manifest.

    Raises:
        UserError: there is none, or it is damaged.
    """
    file = folder / MANIFEST
    if not file.is_file():
        if (folder / "blocks").is_dir():
            raise UserError(f"{folder}: reinforcing is not finished; go on with: pocketclip reinforce RECIPE --resume")
        raise UserError(f"{folder}: has no {MANIFEST}; give a folder that `pocketclip reinforce` wrote.")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: damaged ({error}); bring it back, or reinforce again.") from error
    return Manifest.parse(values, place=str(file))


def check_shard(folder: Path, shard: StoredShard) -> None:
    """See that a shard is there and as long as it was when it was finished.

    Raises:
        UserError: it is not.
    """
    file = folder / shard.file
    size = file.stat().st_size if file.is_file() else None
    if size is None:
        raise UserError(f"{file}: missing, but {MANIFEST} lists it; copy it again, or reinforce again.")
    if size != shard.num_bytes:
        raise UserError(
            f"{file}: has {size:,} bytes, but {MANIFEST} says {shard.num_bytes:,}: it is cut off or from another run; "
            "copy it again, or reinforce again."
        )


class ReinforcedSource:
    """Samples by number, with what is stored for each.

    Args:
        name: as a user writes it.
        folder: of the shards.
        manifest: read from it.

    Raises:
        UserError: a shard was reinforced with other teachers or settings than the manifest says.
    """

    def __init__(self, name: str, folder: Path, manifest: Manifest) -> None:
        self.name = name
        self.folder = folder
        self.manifest = manifest
        self.teachers: tuple[StoredColumns, ...] = tuple(zip(manifest.teachers, manifest.columns, strict=True))
        """Those to learn from, with their columns of a stored row."""
        self._mark = manifest.mark
        files = [folder / shard.file for shard in manifest.shards]
        self._samples = WebdatasetSource(name, files, ("json", VIEWS, FEATURES))
        for first in self._samples.first_of_shards():
            with suppress(BrokenItemError):  # of its own, and named when it is read
                self.reinforcement(first)

    def choose(self, names: Sequence[str]) -> None:
        """Learn from some of the stored teachers only.

        Raises:
            UserError: one of them is not stored.
        """
        known = {teacher.name: (teacher, columns) for teacher, columns in self.teachers}
        for name in names:
            if name not in known:
                raise unknown_choice(f"teacher of {self.folder}", name, known)
        self.teachers = tuple(known[name] for name in dict.fromkeys(names))

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]

    def captions(self, index: int) -> tuple[str, ...]:
        """One sample's captions, without the synthetic ones."""
        return self._samples.captions(index)

    def fingerprint(self) -> str:
        """From the shards' own and the manifest's mark."""
        return digest([self._samples.fingerprint(), self._mark])

    def reinforcement(self, index: int) -> Reinforcement:
        """What is stored for a sample; the picture is not read.

        Raises:
            BrokenItemError: it is missing, or not what the manifest says.
            UserError: it was made by other teachers or settings than the manifest says.
        """
        text, place = self._samples.member(index, "json")
        try:
            values = json.loads(text)
            views = tuple(map(ViewParameters.from_json, json.loads(self._samples.member(index, VIEWS)[0])))
            stored = _read_array(self._samples.member(index, FEATURES)[0])
            mark, synthetic = values["reinforcement"], tuple(values["synthetic"])
            num_texts = len(clean_captions(values["captions"])) + len(synthetic)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BrokenItemError(f"{place}: what is stored for it is damaged ({error}).") from error
        if mark != self._mark:
            raise UserError(
                f"{place}: was reinforced by other teachers or settings ({mark}) than {self.folder / MANIFEST} says "
                f"({self._mark}); bring the right shard or manifest back, or reinforce again."
            )
        if len(views) != self.manifest.num_views:
            raise BrokenItemError(f"{place}: has {len(views)} views; {MANIFEST} says {self.manifest.num_views}.")
        expected = (len(views) + num_texts, self.manifest.width)
        if stored.shape != expected:
            raise BrokenItemError(
                f"{place}: features are {stored.shape}; views, captions and teachers need {expected}."
            )
        return Reinforcement(views, unpack(stored), synthetic)


def pack(features: Floats, dtype: StoredType) -> npt.NDArray[Any]:
    """Floats in half the bytes: float16, or the upper half of a float32 as uint16, which is bfloat16.

    Both round to the nearest, ties to even, like torch.
    """
    if dtype == "float16":
        return features.astype(np.float16)
    bits = np.ascontiguousarray(features).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def unpack(stored: npt.NDArray[Any]) -> Floats:
    """The inverse of `pack`."""
    if stored.dtype == np.float16:
        return stored.astype(np.float32)
    return (stored.astype(np.uint32) << 16).view(np.float32)


def _read_array(data: bytes) -> npt.NDArray[Any]:
    """The array of an .npy file in memory, five times as fast as np.load."""
    end = 10 + int.from_bytes(data[8:10], "little")
    shape, dtype = _layout(data[:end])
    if len(data) - end != shape[0] * shape[1] * dtype.itemsize:
        raise ValueError(f"{len(data) - end} bytes do not make an array of {shape[0]} x {shape[1]}")
    return np.frombuffer(data, dtype, offset=end).reshape(shape)


@functools.lru_cache(maxsize=256)
def _layout(header: bytes) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Shape and type from an .npy file's header; there is a handful of different ones in a folder."""
    file = io.BytesIO(header)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("not an .npy file of version 1.0")
    shape, columns_first, dtype = np.lib.format.read_array_header_1_0(file)
    if len(shape) != 2 or columns_first or dtype not in (np.dtype("<u2"), np.dtype("<f2")):
        raise ValueError(f"an array of shape {shape} and type {dtype} is no feature array")
    return (shape[0], shape[1]), dtype


@dataclass(frozen=True)
class ReinforcedSample:
    """One sample to be written."""

    sample: Sample
    views: Sequence[ViewParameters]
    features: Floats
    """(V + T, W), as in `Reinforcement`."""
    synthetic: Sequence[str] = ()


def write_shard(path: Path, samples: Iterable[ReinforcedSample], manifest: Manifest) -> StoredShard:
    """Write one shard, whole or not at all; the same samples give the same bytes.

    Args:
        path: of the shard.
        samples: made one after the other, while the shard is written.
        manifest: what to store and how.

    Raises:
        UserError: the disk is full, or a teacher gave something that is no number.
    """
    num_samples = num_captions = 0
    with new_shard(path) as archive:
        for item in samples:
            num_rows = manifest.num_views + len(item.sample.captions) + len(item.synthetic)
            assert item.features.shape == (num_rows, manifest.width)
            if not np.isfinite(item.features).all():
                raise UserError(f"{item.sample.place}: a teacher gave features that are not finite numbers.")
            file = io.BytesIO()
            np.lib.format.write_array(file, pack(item.features, manifest.dtype), version=(1, 0), allow_pickle=False)
            views = json.dumps([view.to_json() for view in item.views], separators=(",", ":")).encode()
            further = {"synthetic": list(item.synthetic), "reinforcement": manifest.mark}
            add_sample(archive, item.sample, further, {VIEWS: views, FEATURES: file.getvalue()})
            num_samples += 1
            num_captions += len(item.sample.captions)
    with path.open("rb") as written:
        sha256 = hashlib.file_digest(written, "sha256").hexdigest()
    return StoredShard(
        file=path.name,
        num_samples=num_samples,
        num_captions=num_captions,
        num_bytes=path.stat().st_size,
        sha256=sha256,
    )


def write_manifest(folder: Path, manifest: Manifest, shards: Sequence[StoredShard]) -> Manifest:
    """Write `reinforcement.json`, which makes the folder a finished one.

    Raises:
        UserError: the disk is full.
    """
    counts = {
        "shards": tuple(shards),
        "num_samples": sum(shard.num_samples for shard in shards),
        "num_captions": sum(shard.num_captions for shard in shards),
    }
    finished = manifest.model_copy(update=counts)
    write_atomically(folder / MANIFEST, finished.model_dump_json(indent=2) + "\n")
    return finished
