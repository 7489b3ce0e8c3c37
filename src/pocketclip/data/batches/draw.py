"""Which captions a step shows of an image."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from pocketclip.data.batches.plan import Item
from pocketclip.data.source import Source, readable_captions


@dataclass(frozen=True)
class DrawnCaptions:
    """An item is an image, of which K captions and S synthetic ones are drawn anew each epoch."""

    num_real: int
    """K."""
    num_synthetic: int = 0
    """S; needs a reinforced source. An image without any synthetic ones shows real ones in their place."""

    def num_items(self, source: Source) -> int:
        """Items of one epoch over a source: its examples, of one image or several."""
        return len(source) // source.images_per_example

    def image_of(self, number: int) -> int:
        """Number of an item's image in the source: the item itself."""
        return number

    def draw(self, item: Item) -> list[int]:
        """Numbers of the texts that are shown of an item: K of the real ones, then S of the synthetic."""
        random = np.random.default_rng(item.seeds)
        real = draw_captions(len(item.sample.captions), self.num_real, random)
        return real + _draw_synthetic(item, self.num_synthetic, random)


@dataclass(frozen=True)
class EachCaption:
    """An item is one caption with its image, so an epoch passes over each caption once."""

    ends: npt.NDArray[np.int64]
    """(N,), running total of the captions of each image."""
    num_synthetic: int = 0
    """S, drawn beside it as in `DrawnCaptions`."""

    @classmethod
    def of(cls, source: Source, num_synthetic: int = 0) -> Self:
        """Counts the captions of a source; none of a sample that cannot be read."""
        return cls(np.cumsum([len(texts) for texts in readable_captions(source)]), num_synthetic)

    def num_items(self, source: Source) -> int:
        """Items of one epoch: the captions in all."""
        return int(self.ends[-1])

    def image_of(self, number: int) -> int:
        """The image whose captions end behind the item."""
        return int(np.searchsorted(self.ends, number, side="right"))

    def draw(self, item: Item) -> list[int]:
        """The caption that the item is, then S synthetic ones."""
        caption = int(self.ends[item.index]) - 1 - item.number
        return [caption, *_draw_synthetic(item, self.num_synthetic, np.random.default_rng(item.seeds))]


Captions = DrawnCaptions | EachCaption
"""Says what an item of the plan is, and draws captions for it."""


def draw_captions(num_captions: int, count: int, random: np.random.Generator) -> list[int]:
    """`count` caption numbers of an image that has `num_captions`; each once before any comes twice."""
    drawn: list[int] = []
    while len(drawn) < count:
        drawn.extend(random.permutation(num_captions)[: count - len(drawn)].tolist())
    return drawn


def _draw_synthetic(item: Item, count: int, random: np.random.Generator) -> list[int]:
    """`count` numbers of the synthetic captions, which stand behind the real ones; of the real where there are none."""
    num_real, num_texts = len(item.sample.captions), len(item.texts)
    if num_texts > num_real:
        return [num_real + number for number in draw_captions(num_texts - num_real, count, random)]
    return draw_captions(num_real, count, random)
