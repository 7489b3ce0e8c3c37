"""Rows whose pictures have equal bytes are one sample: which rows those are, hashed once and kept in the cache."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketclip.config import digest
from pocketclip.data.captions import clean_captions
from pocketclip.data.identity import UNREADABLE, first_equal
from pocketclip.data.number_cache import keep_numbers, read_numbers
from pocketclip.data.source import Source
from pocketclip.errors import BrokenItemError, UserError


@dataclass(frozen=True)
class JoinedRows:
    """(S,) the first row and the picture's id of each sample, and (N,) which sample each row is of."""

    first: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    sample_of: npt.NDArray[np.int64]

    @classmethod
    def by_ids(cls, ids: npt.NDArray[np.int64]) -> "JoinedRows":
        """Rows without a picture, whose id is `UNREADABLE`, stay alone."""
        same = first_equal(ids)
        first = np.unique(same)
        return cls(first, ids[first], np.searchsorted(first, same))

    def join(self, texts: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
        """The captions of each sample from those of each row."""
        joined: list[tuple[str, ...]] = [()] * len(self.first)
        for sample, captions in zip(self.sample_of.tolist(), texts, strict=True):
            joined[sample] += tuple(captions)
        return joined


class JoinedSource(Source):
    """A source of rows that are joined; it gives `sample`, `place` and `stamp`."""

    rows: JoinedRows
    texts: Sequence[tuple[str, ...]]
    """Captions of each sample, as they are written."""

    def __len__(self) -> int:
        return len(self.texts)

    def picture_id(self, index: int) -> int:
        """Known since the rows were read."""
        if self.rows.ids[index] == UNREADABLE:
            raise BrokenItemError(f"{self.place(index)}: no picture.")
        return int(self.rows.ids[index])

    def key(self, index: int) -> str:
        return f"{index:08d}"

    def captions(self, index: int) -> tuple[str, ...]:
        return clean_captions(self.texts[index])


def kept_ids(
    place: str, stamp: Any, count: int, compute: Iterator[int], may_keep: Callable[[], bool] = lambda: True
) -> npt.NDArray[np.int64]:
    """(N,) ids of `count` rows, from the cache where the data's stamp is the same; `may_keep` is asked in the end.

    A UserError names `place` where `compute` gives another number of them.
    """
    name = f"{digest(stamp)}.rows"
    if (kept := read_numbers(name, count, np.int64)) is not None:
        return kept
    ids = np.fromiter(compute, np.int64)
    if len(ids) != count:
        raise UserError(f"{place}: damaged: {count:,} rows have captions, and {len(ids):,} pictures.")
    return keep_numbers(name, ids) if may_keep() else ids
