"""Which samples of which sources are written, and with which captions: what filtering and mixing decide."""

import contextlib
import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from pocketclip.data.source import Sample, Source
from pocketclip.errors import BrokenItemError
from pocketclip.files import write_atomically

Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Selection:
    """Samples in the order in which they are written."""

    sources: Integers
    """(n,), number of the source each sample is from."""
    indices: Integers
    """(n,), its number there."""
    counts: Integers
    """(n,), its captions that were judged one by one; with 0 it has all that it has in the source."""
    captions: Mask
    """(q,), which of the judged captions stay."""
    joined_counts: Integers
    """(n,), duplicates whose captions it gets as well."""
    joined: Integers
    """(j, 2), source and number of those duplicates."""

    def __len__(self) -> int:
        return len(self.indices)

    def sample(self, number: int, sources: Sequence[Source]) -> Sample:
        """Read one of the samples, with the captions that stay and those of its duplicates behind them.

        Raises:
            BrokenItemError: it cannot be read.
        """
        sample = sources[int(self.sources[number])][int(self.indices[number])]
        captions = list(sample.captions)
        if self.counts[number]:
            edges, _ = self._edges
            stays = self.captions[edges[number] : edges[number + 1]]
            captions = [text for text, stay in zip(captions, stays, strict=True) if stay]
        for source, index in self.joined_to(number):
            with contextlib.suppress(BrokenItemError):
                captions += sources[source].captions(index)
        return replace(sample, captions=tuple(captions))

    def joined_to(self, number: int) -> list[tuple[int, int]]:
        """Source and number of the duplicates whose captions one of the samples gets."""
        _, edges = self._edges
        return [(int(source), int(index)) for source, index in self.joined[edges[number] : edges[number + 1]]]

    @functools.cached_property
    def _edges(self) -> tuple[Integers, Integers]:
        """Where each sample's judged captions and duplicates begin, and behind them the end of the last."""
        captions, joined = (np.concatenate([[0], np.cumsum(part)]) for part in (self.counts, self.joined_counts))
        return captions, joined

    def save(self, file: Path) -> None:
        """Write an .npz file, the same bytes for the same selection."""
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **{field.name: getattr(self, field.name) for field in fields(self)})
        write_atomically(file, buffer.getvalue())

    @classmethod
    def load(cls, file: Path) -> Self:
        """What `save` wrote."""
        with np.load(file, allow_pickle=False) as arrays:
            return cls(**arrays)
