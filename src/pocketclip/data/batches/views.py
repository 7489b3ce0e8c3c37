"""What a step shows of an image: a fresh random view, a stored one, or stored features of a view."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import default_collate

from pocketclip.data.batches.item import Item
from pocketclip.data.pictures.augment import Augmentation, AugmentConfig, ViewParameters, render_view, shortest_side
from pocketclip.data.pictures.decode import Picture, Pixels, decode_picture
from pocketclip.data.source import Source
from pocketclip.errors import BrokenItemError
from pocketclip.preprocess import PreprocessConfig

_VIEW_ORDER = 7  # keeps the order of views apart from other draws of the same numbers
Shown = tuple[int, list[npt.NDArray[Any]]]
"""The number of a view among those stored, 0 of a fresh one, and its arrays: pixels at each size, or one vector."""


class Views(Protocol):
    """Shows one view of an item."""

    @property
    def preprocess(self) -> PreprocessConfig:
        """How the student wants pictures."""
        ...

    def show(self, item: Item, sizes: Sequence[PreprocessConfig]) -> Shown:
        """A view of an item.

        Args:
            item: what was read.
            sizes: at which to render it, the student's first.

        Raises:
            BrokenItemError: the picture cannot be read.
        """
        ...

    def join(self, arrays: Sequence[npt.NDArray[Any]]) -> torch.Tensor:
        """The same array of each image of a batch, one behind the other."""
        ...


def join_pixels(views: Sequence[Pixels]) -> torch.Tensor:
    """(B, 3, H, W) bytes of views of one size, channels_last in memory."""
    # Torch's own joins them in the memory that a worker shares, which spares a copy
    tensors = [torch.from_numpy(view) for view in views]
    pixels = default_collate(tensors) if tensors else torch.zeros((0, 1, 1, 3), dtype=torch.uint8)
    joined: torch.Tensor = pixels.permute(0, 3, 1, 2)
    return joined


def join_vectors(vectors: Sequence[npt.NDArray[np.float32]]) -> torch.Tensor:
    """(B, F), one row an image."""
    return torch.from_numpy(np.stack(vectors)) if vectors else torch.zeros(0, 1)


@dataclass(frozen=True)
class FreshViews:
    """A view drawn anew each epoch."""

    augmentation: Augmentation

    @property
    def preprocess(self) -> PreprocessConfig:
        """That of the augmentation."""
        return self.augmentation.preprocess

    def show(self, item: Item, sizes: Sequence[PreprocessConfig]) -> Shown:
        """Pixels of the item's view of this epoch; see `Views`."""
        picture = _decoded(item, sizes, self.augmentation.config)
        return 0, _rendered(picture, self.augmentation.draw(picture.size, item.seeds), sizes)

    def join(self, arrays: Sequence[npt.NDArray[Any]]) -> torch.Tensor:
        """See `join_pixels`."""
        return join_pixels(arrays)


@dataclass(frozen=True)
class StoredViews:
    """One of the views that reinforced data hold of each image."""

    preprocess: PreprocessConfig
    augment: AugmentConfig
    """What the views were drawn with."""

    def show(self, item: Item, sizes: Sequence[PreprocessConfig]) -> Shown:
        """Pixels of the stored view whose turn it is; see `Views`."""
        assert item.stored is not None, "nothing is stored"
        number = draw_view_number(len(item.stored.views), item.seed, item.epoch, item.number)
        return number, _rendered(_decoded(item, sizes, self.augment), item.stored.views[number], sizes)

    def join(self, arrays: Sequence[npt.NDArray[Any]]) -> torch.Tensor:
        """See `join_pixels`."""
        return join_pixels(arrays)


@dataclass(frozen=True)
class CachedViews:
    """Features of a frozen tower in the place of pixels."""

    preprocess: PreprocessConfig
    features: "ImageFeatures"

    def show(self, item: Item, sizes: Sequence[PreprocessConfig]) -> Shown:
        """The vector of the view whose turn it is; see `Views`."""
        number = draw_view_number(self.features.num_views, item.seed, item.epoch, item.number)
        vector = self.features.view(item.index, number)
        if vector is None:
            _decoded(item, sizes, AugmentConfig())  # says what is wrong with it
            raise BrokenItemError(f"{item.sample.place}: could not be read when its features were computed.")
        return number, [vector]

    def join(self, arrays: Sequence[npt.NDArray[Any]]) -> torch.Tensor:
        """See `join_vectors`."""
        return join_vectors(arrays)


def views_of(source: Source, augmentation: Augmentation, images: "ImageFeatures | None" = None) -> Views:
    """What a source's images are shown as.

    Args:
        source: a reinforced one brings its own views.
        augmentation: draws those of any other.
        images: features to show in the place of pixels.
    """
    if images is not None:
        return CachedViews(augmentation.preprocess, images)
    if source.stored is not None:
        return StoredViews(augmentation.preprocess, source.stored.manifest.augment)
    return FreshViews(augmentation)


def draw_view_number(num_views: int, seed: int, epoch: int, number: int) -> int:
    """Which of its stored views an item shows in an epoch: each once before any comes twice, in an order of its own."""
    cycle, place = divmod(epoch, num_views)
    return int(np.random.default_rng([seed, cycle, number, _VIEW_ORDER]).permutation(num_views)[place])


def _decoded(item: Item, sizes: Sequence[PreprocessConfig], augment: AugmentConfig) -> Picture:
    """The picture, large enough for views at all sizes."""
    shortest = max(shortest_side(size, augment.crop_scale, augment.crop_ratio) for size in sizes)
    return decode_picture(item.sample.image, place=item.sample.place, shortest=shortest)


def _rendered(picture: Picture, view: ViewParameters, sizes: Sequence[PreprocessConfig]) -> list[Pixels]:
    return [render_view(picture, view, size) for size in sizes]


@dataclass(frozen=True)
class ImageFeatures:
    """What a frozen tower makes of the views of a source's images, in the place of their pixels."""

    features: npt.NDArray[np.floating[Any]]
    """(N, V, F), of the readable images."""
    rows: npt.NDArray[np.int64]
    """Row of each sample of the source; -1 of one whose picture could not be read."""

    @property
    def num_views(self) -> int:
        """V."""
        return int(self.features.shape[1])

    def view(self, index: int, number: int) -> npt.NDArray[np.float32] | None:
        """(F,) of one view of sample `index`; None where its picture could not be read."""
        row = int(self.rows[index])
        if row < 0:
            return None
        vector: npt.NDArray[np.float32] = self.features[row, number].astype(np.float32)
        return vector
