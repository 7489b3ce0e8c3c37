"""Reinforced shards, read and written: WebDataset shards whose samples also carry what teachers make of them.

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
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import field_validator

from pocketclip.data.captions import clean_captions
from pocketclip.data.pictures.augment import ViewParameters
from pocketclip.data.shards import add_sample, new_shard
from pocketclip.data.source import Gift, Sample, SourceSettings
from pocketclip.data.sources.image_files import locate
from pocketclip.data.sources.reinforcement import (
    MANIFEST,
    Floats,
    Manifest,
    ReinforcedData,
    Reinforcement,
    StoredShard,
    StoredType,
    check_shard,
    read_manifest,
)
from pocketclip.data.sources.webdataset import WebdatasetSource
from pocketclip.errors import BrokenItemError, UserError, unknown_choice

VIEWS, FEATURES = "views.json", "features.npy"
"""Endings of a sample's further members."""


class ReinforcedSourceConfig(SourceSettings):
    """`reinforced:DIR` or `reinforced:DIR,teachers=NAME`, a folder that `pocketclip reinforce` wrote."""

    positional: ClassVar[tuple[str, ...]] = ("folder",)
    places: ClassVar[frozenset[str]] = frozenset({"folder"})
    gives: ClassVar[frozenset[Gift]] = frozenset({"captions", "stored_views"})
    kind: Literal["reinforced"] = "reinforced"
    folder: str
    teachers: tuple[str, ...] = ()
    """Names of the stored teachers to learn from; empty means all of them."""

    @field_validator("teachers", mode="before")
    @classmethod
    def _one_name(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    def read(self) -> "ReinforcedSource":
        """Read the manifest and index the shards, which have to be those that it lists."""
        folder = locate(Path(self.folder))
        manifest = read_manifest(folder)
        for shard in manifest.shards:
            check_shard(folder, shard)
        return ReinforcedSource(f"reinforced:{self.folder}", folder, manifest, self.teachers)


class ReinforcedSource(WebdatasetSource):
    """Shards by number, with what is stored for each sample; learnt from are the `chosen` teachers, or all.

    A shard that was reinforced with other teachers or settings than the manifest says is a UserError.
    """

    gives = frozenset({"captions", "stored_views", "identities"})
    own = frozenset({"synthetic", "reinforcement"})

    def __init__(self, name: str, folder: Path, manifest: Manifest, chosen: Sequence[str]) -> None:
        super().__init__(name, [folder / shard.file for shard in manifest.shards], (VIEWS, FEATURES))
        self.folder, self.manifest, self._mark = folder, manifest, manifest.mark
        for first in sorted({first for first in (0, *self._ends) if first < len(self)}):  # of each shard
            with suppress(BrokenItemError):  # of its own, and named when it is read
                self.reinforcement(first)
        self.teachers = tuple(zip(manifest.teachers, manifest.columns, strict=True))
        known = {stored[0].name: stored for stored in self.teachers}
        for teacher in chosen:
            if teacher not in known:
                raise unknown_choice(f"teacher of {folder}", teacher, known)
        if chosen:
            self.teachers = tuple(known[teacher] for teacher in dict.fromkeys(chosen))

    @property
    def stored(self) -> ReinforcedData:
        return ReinforcedData(self.name, self.manifest, self.teachers, self.reinforcement)

    def stamp(self) -> Any:
        return [super().stamp(), self._mark]

    def reinforcement(self, index: int) -> Reinforcement:
        """What is stored for a sample; the picture is not read.

        It is a BrokenItemError where it is missing or not what the manifest says, and a UserError where other teachers
        or settings made it.
        """
        text, place = self.member(index, "json")
        try:
            values = json.loads(text)
            views = tuple(map(ViewParameters.from_json, json.loads(self.member(index, VIEWS)[0])))
            stored = read_array(self.member(index, FEATURES)[0])
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
            message = f"{place}: features are {stored.shape}; views, captions and teachers need {expected}."
            raise BrokenItemError(message)
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


def read_array(data: bytes) -> npt.NDArray[Any]:
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
    """Write one shard, whole or not at all; the same samples, made one after the other, give the same bytes."""
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
    counts = {"num_samples": num_samples, "num_captions": num_captions, "num_bytes": path.stat().st_size}
    return StoredShard(file=path.name, **counts, sha256=sha256)
