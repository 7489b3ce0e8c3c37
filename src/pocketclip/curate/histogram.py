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
    things: str
    """What was counted, such as `captions`."""
    edges: npt.NDArray[np.float64]
    """(bars + 1,)."""
    read: npt.NDArray[np.int64]
    """(bars,), of all; those beyond the edges are in the outermost bars."""
    kept: npt.NDArray[np.int64]
    """(bars,), of those that pass every rule."""
    cuts: tuple[tuple[float, float], ...]
    """The least and the most that stay, and beside each the edge where the bars are cut."""

    @classmethod
    def of(
        cls,
        name: str,
        things: str,
        values: npt.NDArray[Any],
        kept: Mask,
        least: float | None = None,
        most: float | None = None,
    ) -> Self:
        """From (N,) values and whether each stays; those that are not finite are left out."""
        finite = np.isfinite(values)
        values, kept = values[finite], kept[finite]
        half = 0.5 if values.dtype.kind in "iu" else 0.0  # of whole values a bar has some, never a part of one
        places = [(cut, cut - sign * half) for cut, sign in ((least, 1), (most, -1)) if cut is not None]
        low, high = np.percentile(values, [ENDS, 100 - ENDS]).tolist() if len(values) else (0.0, 1.0)
        low, high = min([low, *(edge for _, edge in places)]), max([high, *(edge for _, edge in places)])
        width = (high - low) / (BARS - 4) or 1.0
        width = max(1, math.ceil(width)) if half else width
        anchor = places[0][1] if places else low - half  # a cut is an edge, so that no bar is on both sides of it
        first, last = math.floor((low - anchor) / width) - 1, math.ceil((high - anchor) / width) + 1
        edges = anchor + width * np.arange(first, last + 1.0)
        inside = values.clip(edges[0], edges[-1])
        read, of_kept = (np.histogram(part, edges)[0] for part in (inside, inside[kept]))
        return cls(name, things, edges, read, of_kept, tuple(places))
