"""Features of frozen towers on disk, found again by what made them.

An entry is a folder named by a hash of data, tower, weights and preprocessing; any change of these makes a new one.
Images and texts have entries of their own, so that another image tower reuses the text features. Files are raw
float16, appended block by block: a stopped run goes on where it was, and reading maps them into memory.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from pydantic import Field

from pocketclip.config import Config, digest
from pocketclip.data.augment import CropScale, View
from pocketclip.data.batches import BatchPlan, ImageFeatures, draw_captions
from pocketclip.data.encode import ImageBlock, TextBlock
from pocketclip.data.source import Source
from pocketclip.errors import UserError
from pocketclip.files import write_atomically
from pocketclip.stages.watch import Watch
from pocketclip.types import ImageTextBatch

FORMAT = 5  # raise when the same inputs would give other numbers
Floats = npt.NDArray[np.floating[Any]]  # float16 from disk, float32 in memory
Integers = npt.NDArray[np.int64]


class CacheConfig(Config):
    """Which views of each image are stored."""

    views: Annotated[tuple[View, ...], Field(min_length=1)] | Literal["stored"] = ("centre",)
    """`stored` is every view that reinforced data hold of an image, which their teachers saw too."""
    crop_scale: CropScale = (0.5, 1.0)
    """Share of the area that the views `crop` and `crop_flip` keep."""

    def num_views(self, source: Source | None) -> int:
        """Of each image of a source, which only stored views have to ask."""
        if self.views != "stored":
            return len(self.views)
        stored = None if source is None else source.stored
        assert stored is not None, "the recipe asks stored views of reinforced data only"
        return stored.manifest.num_views


def cache_folder() -> Path:
    """`$POCKETCLIP_CACHE`, or `~/.cache/pocketclip`."""
    return Path(os.environ.get("POCKETCLIP_CACHE", "~/.cache/pocketclip")).expanduser() / "features"


class EntryState(Config):
    """`entry.json`: how far an entry is written."""

    made_from: dict[str, Any]
    num_samples: int
    num_done: int = 0
    rows: int = 0
    shape: tuple[int, ...] = ()
    """Of one row of `features`."""
    num_bytes: dict[str, int] = {}
    """Of each file; what lies behind it does not count."""
    broken: list[str] = []


@dataclass
class Entry:
    """One folder of the cache, whole or partly written."""

    folder: Path
    state: EntryState

    @classmethod
    def open(cls, root: Path, made_from: dict[str, Any], num_samples: int) -> Self:
        """The entry for these inputs, new if there is none."""
        folder = root / digest([FORMAT, made_from])
        state = EntryState(made_from=made_from, num_samples=num_samples)
        path = folder / "entry.json"
        if path.is_file():
            try:
                state = EntryState.parse(json.loads(path.read_text()), place=str(path))
                for name, size in state.num_bytes.items():
                    if (folder / f"{name}.bin").stat().st_size < size:
                        raise ValueError(f"{name}.bin is cut off")
            except (OSError, ValueError, UserError):
                shutil.rmtree(folder)  # a damaged entry only costs the time to make it again
                state = EntryState(made_from=made_from, num_samples=num_samples)
        return cls(folder, state)

    def __len__(self) -> int:
        return self.state.rows

    @property
    def is_complete(self) -> bool:
        """Whether every sample of the source is in."""
        return self.state.num_done == self.state.num_samples

    def append(self, arrays: dict[str, npt.NDArray[Any]], *, num_done: int, broken: Sequence[str]) -> None:
        """Add rows; they count only once `entry.json` says so, so a killed process leaves nothing half true.

        Raises:
            UserError: the disk is full, or a feature does not fit float16.
        """
        features = arrays["features"]
        rows, shape = len(features), tuple(features.shape[1:])
        if rows and not np.isfinite(features.astype(np.float16)).all():
            raise UserError("A frozen tower gave features beyond float16 (not finite or above 65,504).")
        num_bytes = dict(self.state.num_bytes)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, array in arrays.items():
                kind = np.float16 if name == "features" else np.int64
                num_bytes[name] = self._append_file(name, array.astype(kind), num_bytes.get(name, 0))
        except OSError as error:
            raise _cannot_write_cache(self.folder, error) from error
        changed = {
            "num_done": num_done,
            "rows": self.state.rows + rows,
            "shape": shape if rows else self.state.shape,
            "num_bytes": num_bytes,
            "broken": [*self.state.broken, *broken],
        }
        state = self.state.model_copy(update=changed)
        write_atomically(self.folder / "entry.json", state.model_dump_json(indent=2) + "\n")
        self.state = state

    def _append_file(self, name: str, array: npt.NDArray[Any], start: int) -> int:
        """Write behind the bytes that count, over what a killed process left there; returns the new end."""
        path = self.folder / f"{name}.bin"
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.seek(start)
            file.write(np.ascontiguousarray(array).tobytes())
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def read(self, name: str) -> npt.NDArray[Any]:
        """One array, mapped into memory."""
        kind = np.dtype(np.float16 if name == "features" else np.int64)
        rows = self.state.num_done if name == "counts" else self.state.rows
        shape = (rows, *self.state.shape) if name == "features" else (rows,)
        if rows == 0:
            return np.zeros(shape, kind)
        return np.memmap(self.folder / f"{name}.bin", dtype=kind, mode="r", shape=shape)


def _cannot_write_cache(place: Path, error: OSError) -> UserError:
    return UserError(
        f"Cannot write {place}: {error.strerror or error}. Nothing already written was lost; free some space or "
        "choose another place with the environment variable POCKETCLIP_CACHE."
    )


@contextmanager
def _filling(root: Path, made_from: dict[str, Any], num_samples: int) -> Iterator[Entry]:
    """An entry that only this process fills: another one waits, and then finds it filled."""
    entry = Entry.open(root, made_from, num_samples)
    if entry.is_complete:
        yield entry
        return
    try:
        locks = root.with_name(f"{root.name}-locks")
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / entry.folder.name).acquire()
    except OSError as error:
        raise _cannot_write_cache(root, error) from error
    with lock:
        yield Entry.open(root, made_from, num_samples)


def fill_images(
    root: Path,
    made_from: dict[str, Any],
    num_samples: int,
    blocks: Callable[[int], Iterator[ImageBlock]],
    watch: Watch,
) -> Entry:
    """The image features for these inputs, computing only what is not there yet.

    Args:
        root: of the cache.
        made_from: everything the features depend on.
        num_samples: of the source.
        blocks: gives the blocks from a sample number on.
        watch: told of the samples done and of broken items.
    """
    with _filling(root, made_from, num_samples) as entry:
        watch.work("encoding images", entry.state.num_done, num_samples, entry.state.broken)
        for block in () if entry.is_complete else blocks(entry.state.num_done):
            arrays: dict[str, npt.NDArray[Any]] = {"features": block.features, "indices": block.indices}
            entry.append(arrays, num_done=block.num_done, broken=block.broken)
            watch.work("encoding images", block.num_done, num_samples, entry.state.broken)
    return entry


def fill_texts(
    root: Path,
    made_from: dict[str, Any],
    num_samples: int,
    blocks: Callable[[int], Iterator[TextBlock]],
    watch: Watch,
) -> Entry:
    """The caption features for these inputs; see `fill_images`."""
    with _filling(root, made_from, num_samples) as entry:
        watch.work("encoding captions", entry.state.num_done, num_samples, entry.state.broken)
        for block in () if entry.is_complete else blocks(entry.state.num_done):
            arrays: dict[str, npt.NDArray[Any]] = {
                "features": block.features,
                "caption_ids": block.caption_ids,
                "counts": block.counts,
            }
            entry.append(arrays, num_done=block.num_done, broken=[])
            watch.work("encoding captions", block.num_done, num_samples, entry.state.broken)
    return entry


def image_features(entry: Entry, source: Source) -> ImageFeatures:
    """The features of an entry by the sample numbers of its source."""
    rows = np.full(len(source), -1, dtype=np.int64)
    indices = np.asarray(entry.read("indices"))
    rows[indices] = np.arange(len(indices))
    return ImageFeatures(entry.read("features"), rows)


@dataclass(frozen=True)
class CachedPairs:
    """Image and caption features of a source, row i of `images` with the captions it owns."""

    images: Floats
    """(N, V, F), mapped."""
    texts: Floats
    """(Q, F), mapped."""
    caption_ids: Integers
    """(Q,)."""
    first_caption: Integers
    """(N,), row in `texts`."""
    num_captions: Integers
    """(N,), at least 1."""
    rows: Integers
    """(N,), row in `images`: images without a caption are passed over."""
    indices: Integers
    """(N,), number in the source."""
    broken: list[str]

    @classmethod
    def join(cls, images: Entry, texts: Entry) -> Self:
        """Bring the two entries of a source together; images without captions are left out and named."""
        return cls.from_arrays(
            features=images.read("features"),
            indices=np.asarray(images.read("indices")),
            texts=texts.read("features"),
            caption_ids=np.asarray(texts.read("caption_ids")),
            counts=np.asarray(texts.read("counts")),
            broken=images.state.broken,
        )

    @classmethod
    def with_texts(cls, images: Entry, texts: Iterable[TextBlock]) -> Self:
        """Images from the cache with captions from a tower that is being trained."""
        return cls.from_arrays(
            features=images.read("features"),
            indices=np.asarray(images.read("indices")),
            broken=images.state.broken,
            **_joined_texts(texts),
        )

    @classmethod
    def from_blocks(cls, images: Iterable[ImageBlock], texts: Iterable[TextBlock]) -> Self:
        """The same in memory, for features that are not worth keeping."""
        image_list = list(images)
        return cls.from_arrays(
            features=_joined([block.features for block in image_list]),
            indices=np.concatenate([block.indices for block in image_list]),
            **_joined_texts(texts),
            broken=[message for block in image_list for message in block.broken],
        )

    @classmethod
    def from_arrays(
        cls,
        *,
        features: Floats,
        indices: Integers,
        texts: Floats,
        caption_ids: Integers,
        counts: Integers,
        broken: Sequence[str],
    ) -> Self:
        """From image rows with their numbers in the source, and caption rows with every sample's count."""
        ends = np.cumsum(counts)
        rows = np.flatnonzero(counts[indices] > 0)
        kept = indices[rows]
        without = [f"sample {index}: has no caption." for index in indices[counts[indices] == 0]]
        return cls(
            images=features,
            texts=texts,
            caption_ids=caption_ids,
            first_caption=(ends - counts)[kept],
            num_captions=counts[kept],
            rows=rows,
            indices=kept,
            broken=[*broken, *without],
        )

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, chosen: Integers, views: Integers, captions: Integers) -> ImageTextBatch:
        """A batch of features.

        Args:
            chosen: (B,) pairs.
            views: (B,) which view of each.
            captions: (B, K) rows of `texts`.
        """
        flat = captions.reshape(-1)
        return ImageTextBatch(
            images=torch.from_numpy(self.images[self.rows[chosen], views].astype(np.float32)),
            tokens=torch.from_numpy(self.texts[flat].astype(np.float32)),
            token_mask=torch.ones(len(flat), 0, dtype=torch.bool),
            image_ids=torch.from_numpy(self.indices[chosen]),
            caption_ids=torch.from_numpy(self.caption_ids[flat]),
        )


def _joined_texts(blocks: Iterable[TextBlock]) -> dict[str, Any]:
    """The fields of `CachedPairs.from_arrays` that captions fill."""
    text_list = list(blocks)
    return {
        "texts": _joined([block.features for block in text_list]),
        "caption_ids": np.concatenate([block.caption_ids for block in text_list]),
        "counts": np.concatenate([block.counts for block in text_list]),
    }


def _joined(blocks: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """One array; blocks without a row do not know their width."""
    filled = [block for block in blocks if len(block)]
    return np.concatenate(filled) if filled else blocks[0]


def cached_batches(
    pairs: CachedPairs,
    plan: BatchPlan,
    *,
    captions_per_image: int,
    num_steps: int,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[ImageTextBatch]:
    """Batches of features of steps `start_step` to `num_steps`; views and captions are drawn anew each epoch.

    With `world_size` ranks each gets its share of the same batches.
    """
    num_views = pairs.images.shape[1]
    share = plan.share(rank, world_size)
    for step in range(start_step, num_steps):
        _, chosen = plan.batch(step)
        random = np.random.default_rng([plan.seed, 1, step])
        views = random.integers(0, num_views, len(chosen))
        captions = np.array(
            [
                [first + number for number in draw_captions(count, captions_per_image, random)]
                for first, count in zip(pairs.first_caption[chosen], pairs.num_captions[chosen], strict=True)
            ]
        )
        yield pairs.batch(chosen[share], views[share], captions[share])
