"""Which pictures of several sources are written: near duplicates and held-out ones not, the rest evenly interleaved."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pocketclip.curate.near_duplicates import find_duplicates
from pocketclip.curate.selection import Integers, Selection
from pocketclip.data.pictures.near_pairs import Hashes
from pocketclip.stages.watch import SILENT, Watch


@dataclass(frozen=True)
class Hashed:
    """What was read of one source."""

    indices: Integers
    """(N,), number in the source, of those that could be read."""
    hashes: Hashes
    """(N,)."""
    counts: Integers
    """(N,), captions that stay."""
    cleaning: Integers
    """(blocks, counts), of captions; see `clean.COUNTS`."""
    num_broken: int = 0


@dataclass(frozen=True)
class MixVerdict:
    """What is written, and why the rest is not."""

    selection: Selection
    without_caption: Integers
    """(S,), samples of each source that no caption is left to."""
    duplicates: Integers
    """(S,), samples of each source that another one stands for."""
    held_out: Integers
    """(h, 3), source, number, and the place among the held-out hashes of one that is near."""
    planned: Integers
    """(3, S), images, captions and, as nothing is written yet, 0 broken items that are written of each source."""


def judge(
    hashed: Sequence[Hashed], held_out: Hashes, *, max_distance: int, join_captions: bool, watch: Watch = SILENT
) -> MixVerdict:
    """Decide which samples are written, and in which order.

    Pictures near a held-out one go first, then those without a caption, then duplicates: of pictures near each other
    the one with more captions stays, of equals the first, sources in their order. What stays is interleaved evenly,
    each source in its own order, so that every shard holds the sources in the proportions of the whole.

    Pictures are near at `max_distance` bits; `held_out` (H,) are hashes of those that must not be written.
    """
    owners = np.repeat(np.arange(len(hashed)), [len(one.indices) for one in hashed])
    indices, hashes, counts = (
        np.concatenate([getattr(one, name) for one in hashed]) for name in ("indices", "hashes", "counts")
    )
    # One without a caption stands last, behind every one that it could be a duplicate of
    duplicates = find_duplicates(hashes, counts, held_out, max_distance, watch)
    near_held, stands = duplicates.held_out >= 0, duplicates.keeper == np.arange(len(hashes))
    bare = ~near_held & (counts == 0)
    dropped = ~near_held & ~bare & ~stands
    kept = np.flatnonzero(stands & ~bare)
    kept = kept[_interleaved(owners[kept])]
    joined_counts, joined = _joined(duplicates.keeper, kept, np.flatnonzero(dropped & join_captions))
    of_source, none = functools.partial(np.bincount, minlength=len(hashed)), np.zeros(len(hashed), np.int64)
    selection = Selection(
        sources=owners[kept],
        indices=indices[kept],
        counts=np.zeros(len(kept), np.int64),
        captions=np.zeros(0, bool),
        joined_counts=joined_counts,
        joined=np.stack([owners[joined], indices[joined]], axis=1),
    )
    return MixVerdict(
        selection,
        without_caption=of_source(owners[bare]),
        duplicates=of_source(owners[dropped]),
        held_out=np.stack([owners[near_held], indices[near_held], duplicates.held_out[near_held]], axis=1),
        planned=np.stack([of_source(owners[kept]), of_source(np.repeat(owners[kept], counts[kept])), none]),
    )


def _interleaved(owners: Integers) -> Integers:
    """An order in which each source is spread evenly over the whole, given the source of each sample in turn."""
    counts = np.bincount(owners)
    places = np.concatenate([np.zeros(0), *((np.arange(count) + 0.5) / count for count in counts)])
    return np.lexsort((owners, places))


def _joined(keeper: Integers, kept: Integers, dropped: Integers) -> tuple[Integers, Integers]:
    """How many dropped samples each of `kept` stands for, and those in its order."""
    place = np.full(len(keeper), -1, np.int64)
    place[kept] = np.arange(len(kept))
    standing = place[keeper[dropped]]
    order = np.argsort(standing, kind="stable")
    return np.bincount(standing, minlength=len(kept)), dropped[order]
