"""How a signal is spread over all samples, and over those that a filter keeps."""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pocketclip.curate.selection import Mask

BARS = 60
ENDS = 0.1
"""Percent of the values on either side that go into the outermost bars, since one of a million would flatten all."""


@dataclass(frozen=True)
class Histogram:
    """Counts of a signal by bar."""

    name: str
    edges: npt.NDArray[np.float64]
    """(bars + 1,)."""
    read: npt.NDArray[np.int64]
    """(bars,), of all samples; those beyond the edges are in the outermost bars."""
    kept: npt.NDArray[np.int64]
    """(bars,), of those that pass every rule."""
    cuts: tuple[float, ...]
    """Values that a rule drops below or above."""

    @classmethod
    def of(cls, name: str, values: npt.NDArray[Any], kept: Mask, cuts: tuple[float, ...]) -> Self:
        """From (N,) values and whether each stays; those that are not finite are left out."""
        finite = np.isfinite(values)
        values, kept = values[finite], kept[finite]
        low, high = np.percentile(values, [ENDS, 100 - ENDS]).tolist() if len(values) else (0.0, 1.0)
        low, high = min([low, *cuts]), max([high, *cuts])
        if values.dtype.kind in "iu":  # a bar takes whole values, or it would be higher where one more falls into it
            low, width = math.floor(low), max(1, math.ceil((high - low + 1) / BARS))
            edges = low - 0.5 + width * np.arange(math.ceil((high - low + 1) / width) + 1.0)
        else:
            edges = np.linspace(low, high if high > low else low + 1, BARS + 1)
        inside = values.clip(edges[0], edges[-1])
        read, of_kept = (np.histogram(part, edges)[0] for part in (inside, inside[kept]))
        return cls(name, edges, read, of_kept, cuts)
