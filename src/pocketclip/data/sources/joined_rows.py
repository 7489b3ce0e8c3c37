"""Rows whose pictures have equal bytes are one sample: which rows those are, hashed once and kept in the cache."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketclip.config import digest
from pocketclip.errors import UserError
from pocketclip.files import cache_root, write_atomically

NO_PICTURE = -1


@dataclass(frozen=True)
class JoinedRows:
    """(S,) the first row and the picture's id of each sample, and (N,) which sample each row is of."""

    first: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    sample_of: npt.NDArray[np.int64]

    @classmethod
    def by_ids(cls, ids: npt.NDArray[np.int64]) -> "JoinedRows":
        """Rows without a picture stay alone."""
        apart = ids.copy()
        missing = np.flatnonzero(ids == NO_PICTURE)
        apart[missing] = -2 - missing
        _, first, of_each = np.unique(apart, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return cls(first[order].astype(np.int64), ids[first[order]], rank[of_each].astype(np.int64))

    def join(self, texts: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
        """The captions of each sample from those of each row."""
        joined: list[tuple[str, ...]] = [()] * len(self.first)
        for sample, captions in zip(self.sample_of.tolist(), texts, strict=True):
            joined[sample] += tuple(captions)
        return joined


def kept_ids(
    place: str, stamp: Any, count: int, compute: Iterator[int], may_keep: Callable[[], bool] = lambda: True
) -> npt.NDArray[np.int64]:
    """(N,) ids of `count` rows, from the cache where the data's stamp is the same; `may_keep` is asked in the end.

    A UserError names `place` where `compute` gives another number of them.
    """
    file = cache_root() / "identity" / f"{digest(stamp)}.rows.npy"
    with suppress(OSError, ValueError, EOFError):
        ids = np.load(file, allow_pickle=False)
        if ids.shape == (count,) and ids.dtype == np.int64:
            return np.asarray(ids)
    ids = np.fromiter(compute, np.int64)
    if len(ids) != count:
        raise UserError(f"{place}: damaged: {count:,} rows have captions, and {len(ids):,} pictures.")
    if not may_keep():
        return ids
    buffer = io.BytesIO()
    np.save(buffer, ids, allow_pickle=False)
    with suppress(OSError, UserError):  # without a cache it is computed again
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, buffer.getvalue())
    return ids
