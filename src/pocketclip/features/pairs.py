"""A source as pairs of features, and batches of them: what heads are trained on and embeddings are projected from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from pocketclip.data.batches import BatchPlan, ImageFeatures, draw_captions
from pocketclip.data.source import Source
from pocketclip.stages.store import Block
from pocketclip.types import ImageTextBatch

Floats = npt.NDArray[np.floating[Any]]  # float16 from disk, float32 in memory
Integers = npt.NDArray[np.int64]


def image_features(images: Block, source: Source) -> ImageFeatures:
    """The features of a whole source's images by its sample numbers."""
    rows = np.full(len(source), -1, dtype=np.int64)
    rows[images["indices"]] = np.arange(len(images["indices"]))
    return ImageFeatures(images["features"], rows)


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
    def join(cls, images: Block, texts: Block) -> Self:
        """Bring the images and the captions of a whole source together, as `NO_IMAGES` and `NO_TEXTS` say.

        Images without captions are left out and named.
        """
        indices, counts = np.asarray(images["indices"]), np.asarray(texts["counts"])
        ends = np.cumsum(counts)
        rows = np.flatnonzero(counts[indices] > 0)
        kept = indices[rows]
        without = [f"sample {index}: has no caption." for index in indices[counts[indices] == 0]]
        return cls(
            images=images["features"],
            texts=texts["features"],
            caption_ids=np.asarray(texts["caption_ids"]),
            first_caption=(ends - counts)[kept],
            num_captions=counts[kept],
            rows=rows,
            indices=kept,
            broken=[*images.broken, *without],
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
