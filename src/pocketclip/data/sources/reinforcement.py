"""What reinforced data hold beside pictures and captions: who the teachers were, and views, features and captions.

`reinforcement.json` is the manifest of a folder that `pocketclip reinforce` wrote.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from pocketclip.config import Config, digest
from pocketclip.data.pictures.augment import AugmentConfig, ViewParameters
from pocketclip.errors import UserError
from pocketclip.files import write_atomically
from pocketclip.image_size import ImageSize

MANIFEST = "reinforcement.json"
StoredType = Literal["bfloat16", "float16"]
Floats = npt.NDArray[np.float32]


class StoredTeacher(Config):
    """A teacher whose features are stored."""

    name: str
    kind: str
    width: PositiveInt
    scale: PositiveFloat
    """Inverse temperature that training uses; nothing stored depends on it, so it may be changed here by hand."""
    image_size: ImageSize
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


@dataclass(frozen=True)
class ReinforcedData:
    """What is stored for the samples of a reinforced source, or of a part of one."""

    name: str
    """Of the whole source, for messages."""
    manifest: Manifest
    teachers: tuple[StoredColumns, ...]
    """Those to learn from, with their columns of a stored row."""
    read_stored: Callable[[int], Reinforcement]
    """Of the whole source, by its own numbers."""
    indices: npt.NDArray[np.int64] | None = None
    """Number in the whole source of each sample of a part; None where there is no part."""

    def part(self, chosen: npt.NDArray[np.int64]) -> "ReinforcedData":
        """Of some samples, in the given order."""
        return replace(self, indices=chosen if self.indices is None else self.indices[chosen])

    def read(self, index: int) -> Reinforcement:
        """What is stored for one sample; the picture is not read."""
        return self.read_stored(index if self.indices is None else int(self.indices[index]))


def read_manifest(folder: Path) -> Manifest:
    """A reinforced folder's manifest."""
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
    """Refuse a shard that is not there, or not as long as it was when it was finished."""
    file = folder / shard.file
    size = file.stat().st_size if file.is_file() else None
    if size is None:
        raise UserError(f"{file}: missing, but {MANIFEST} lists it; copy it again, or reinforce again.")
    if size != shard.num_bytes:
        raise UserError(
            f"{file}: has {size:,} bytes, but {MANIFEST} says {shard.num_bytes:,}: it is cut off or from another run; "
            "copy it again, or reinforce again."
        )


def write_manifest(folder: Path, manifest: Manifest, shards: Sequence[StoredShard]) -> Manifest:
    """Write `reinforcement.json`, which makes the folder a finished one."""
    counts = {name: sum(getattr(shard, name) for shard in shards) for name in ("num_samples", "num_captions")}
    finished = manifest.model_copy(update={"shards": tuple(shards), **counts})
    write_atomically(folder / MANIFEST, json.dumps(finished.model_dump(mode="json"), indent=2) + "\n")
    return finished
