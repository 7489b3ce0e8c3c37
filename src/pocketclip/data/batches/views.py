"""What a step shows of an image: a fresh random view, a stored one, or stored features of a view."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import default_collate

from pocketclip.data.batches.plan import Item
from pocketclip.data.pictures.augment import AugmentConfig, ViewParameters, draw_view, render_view, shortest_side
from pocketclip.data.pictures.decode import Picture, Pixels, decode_picture
from pocketclip.data.source import Source
from pocketclip.errors import BrokenItemError
from pocketclip.preprocess import PreprocessConfig
from pocketclip.stages.store import Block

_VIEW_ORDER = 7  # keeps the order of views apart from other draws of the same numbers


class Shown(NamedTuple):
    """What is shown of an item."""

    view: int
    """Number of the view among those stored, 0 of a fresh one."""
    arrays: list[npt.NDArray[Any]]
    """Pixels at each size, then those of further views; or one vector."""
    swaps_sides: bool = False
    """Whether what its captions call left is on the right, and should be called so."""


@dataclass(frozen=True)
class Views:
    """Shows a view of each item, drawn anew each epoch; the other kinds below show what is stored."""

    preprocess: PreprocessConfig
    """How the student wants pictures."""
    augment: AugmentConfig
    """What the views are drawn with."""
    num_views: int = 1
    """Of an image in a batch; those behind the first are for the student alone."""
    augment_further: AugmentConfig | None = None
    """What those behind the first are drawn with; None is `augment`."""

    def show(self, item: Item, sizes: Sequence[PreprocessConfig]) -> Shown:
        """A view of an item, at each of the sizes, of which the student's comes first.

        Raises:
            BrokenItemError: the picture cannot be read.
        """
        picture = self._decoded(item, sizes)
        aspect = sizes[0].aspect
        first = draw_view(self.augment, picture.size, item.seeds, aspect)
        others = self.augment_further or self.augment
        seeds = [[*item.seeds, number] for number in range(1, self.num_views)]
        further = [draw_view(others, picture.size, seed, aspect) for seed in seeds]
        arrays = [*_rendered(picture, first, sizes), *(render_view(picture, view, sizes[0]) for view in further)]
        return Shown(0, arrays, first.flip and self.augment.flip == "swap_sides")

    def join(self, arrays: Sequence[npt.NDArray[Any]]) -> torch.Tensor:
        """(B, 3, H, W) bytes of views of one size, channels_last in memory."""
        # Torch's own joins them in the memory that a worker shares, which spares a copy
        tensors = [torch.from_numpy(view) for view in arrays]
        pixels: torch.Tensor = default_collate(tensors) if tensors else torch.zeros((0, 1, 1, 3), dtype=torch.uint8)
        return pixels.permute(0, 3, 1, 2)

    def _decoded(self, item: Item, sizes: Sequence[PreprocessConfig]) -> Picture:
        """The picture, large enough for views at all sizes."""
        shortest = max(shortest_side(size, self.augment) for size in sizes)
        if self.augment_further is not None:
            shortest = max(shortest, shortest_side(sizes[0], self.augment_further))
        return decode_picture(item.sample.image, place=item.sample.place, shortest=shortest)


@dataclass(frozen=True)
class StoredViews(Views):
    """Shows one of the views that reinforced data hold of each image."""

    def show(self, item: Item, sizes: Sequence[PreprocessConfig]) -> Shown:
        """Pixels of the stored view whose turn it is; see `Views`."""
        assert item.stored is not None, "nothing is stored"
        number = draw_view_number(len(item.stored.views), item.seed, item.epoch, item.number)
        return Shown(number, _rendered(self._decoded(item, sizes), item.stored.views[number], sizes))


@dataclass(frozen=True)
class CachedViews(Views):
    """Shows features of a frozen tower in the place of pixels."""

    features: npt.NDArray[np.floating[Any]] = field(kw_only=True)
    """(N, V, F), of the readable images."""
    rows: npt.NDArray[np.int64] = field(kw_only=True)
    """Row of each sample of the source; -1 of one whose picture could not be read."""

    def show(self, item: Item, sizes: Sequence[PreprocessConfig]) -> Shown:
        """The vector of the view whose turn it is; see `Views`."""
        number = draw_view_number(self.features.shape[1], item.seed, item.epoch, item.number)
        row = self.rows[item.index]
        if row < 0:
            self._decoded(item, sizes)  # says what is wrong with it
            raise BrokenItemError(f"{item.sample.place}: could not be read when its features were computed.")
        return Shown(number, [self.features[row, number].astype(np.float32)])

    def join(self, arrays: Sequence[npt.NDArray[Any]]) -> torch.Tensor:
        """(B, F), one row an image."""
        return torch.from_numpy(np.stack(arrays)) if arrays else torch.zeros(0, 1)


def views_of(
    source: Source,
    augment: AugmentConfig,
    preprocess: PreprocessConfig,
    features: Block | None = None,
    *,
    num_views: int = 1,
    augment_further: AugmentConfig | None = None,
) -> Views:
    """What a source's images are shown as.

    Args:
        source: a reinforced one brings its own views.
        augment: draws those of any other.
        preprocess: how the student wants pictures.
        features: what a frozen tower makes of the whole source, to show in the place of pixels.
        num_views: of an image in a batch, where they are drawn.
        augment_further: draws those behind the first, where they are others.
    """
    if features is not None:
        rows = np.full(len(source), -1, dtype=np.int64)
        rows[features["indices"]] = np.arange(len(features["indices"]))
        return CachedViews(preprocess, AugmentConfig(), features=features["features"], rows=rows)
    if source.stored is not None:
        return StoredViews(preprocess, source.stored.manifest.augment)
    return Views(preprocess, augment, num_views, augment_further)


def draw_view_number(num_views: int, seed: int, epoch: int, number: int) -> int:
    """Which of its stored views an item shows in an epoch: each once before any comes twice, in an order of its own."""
    cycle, place = divmod(epoch, num_views)
    return int(np.random.default_rng([seed, cycle, number, _VIEW_ORDER]).permutation(num_views)[place])


def _rendered(picture: Picture, view: ViewParameters, sizes: Sequence[PreprocessConfig]) -> list[Pixels]:
    return [render_view(picture, view, size) for size in sizes]
