"""A source as pairs of features, and batches of them: what heads are trained on and embeddings are projected from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from pocketclip.data.batches import BatchPlan, draw_captions
from pocketclip.stages.store import Block
from pocketclip.types import ImageTextBatch

Floats = npt.NDArray[np.floating[Any]]  # float16 from disk, float32 in memory
Integers = npt.NDArray[np.int64]


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
    pictures: Integers
    """(N,), equal where the pictures are the same."""
    broken: list[str]

    @classmethod
    def join(cls, images: Block, texts: Block, place: Callable[[int], str]) -> Self:
        """Bring the images and the captions of a whole source together, as `NO_IMAGES` and `NO_TEXTS` say.

        Images without captions are left out and named by `place`, that of the source.
        """
        indices, counts = np.asarray(images["indices"]), np.asarray(texts["counts"])
        ends = np.cumsum(counts)
        rows = np.flatnonzero(counts[indices] > 0)
        kept = indices[rows]
        without = [f"{place(int(index))}: has no caption." for index in indices[counts[indices] == 0]]
        return cls(
            images=images["features"],
            texts=texts["features"],
            caption_ids=np.asarray(texts["caption_ids"]),
            first_caption=(ends - counts)[kept],
            num_captions=counts[kept],
            rows=rows,
            indices=kept,
            pictures=np.asarray(images["pictures"])[rows],
            broken=[*images.broken, *without],
        )

    def __len__(self) -> int:
        return len(self.rows)


def cached_batches(
    pairs: CachedPairs, plan: BatchPlan, steps: range, captions_per_image: int, share: slice | None = None
) -> Iterator[ImageTextBatch]:
    """Batches of features, one for each of some steps; views and captions are drawn anew each epoch.

    `share` is a rank's part of every batch, as `BatchPlan.share` gives it; None is all of it.
    """
    share, num_views = share or slice(None), pairs.images.shape[1]
    for step in steps:
        _, chosen = plan.batch(step)
        random = np.random.default_rng([plan.seed, 1, step])
        views = random.integers(0, num_views, len(chosen))
        drawn = [
            first + np.array(draw_captions(count, captions_per_image, random))
            for first, count in zip(pairs.first_caption[chosen], pairs.num_captions[chosen], strict=True)
        ]
        chosen, captions = chosen[share], np.concatenate(drawn[share])
        yield ImageTextBatch(
            images=torch.from_numpy(pairs.images[pairs.rows[chosen], views[share]].astype(np.float32)),
            tokens=torch.from_numpy(pairs.texts[captions].astype(np.float32)),
            token_mask=torch.ones(len(captions), 0, dtype=torch.bool),
            image_ids=torch.from_numpy(pairs.pictures[chosen]),
            caption_ids=torch.from_numpy(pairs.caption_ids[captions]),
            indices=torch.from_numpy(pairs.indices[chosen]),
        )
