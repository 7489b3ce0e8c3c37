"""Reinforced shards are written: samples with their views, their synthetic captions and packed features."""

import functools
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketclip.data.pictures.augment import ViewParameters
from pocketclip.data.shards import add_sample, new_shard
from pocketclip.data.source import Sample
from pocketclip.data.sources.reinforcement import Floats, Manifest, StoredShard, StoredType
from pocketclip.errors import UserError

VIEWS, FEATURES = "views.json", "features.npy"
"""Endings of a sample's further members."""


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
