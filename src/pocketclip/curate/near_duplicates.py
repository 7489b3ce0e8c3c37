"""Which samples stay where pictures are nearly the same."""

from dataclasses import dataclass

import numpy as np

from pocketclip.curate.selection import Integers
from pocketclip.data.pictures.near_pairs import Hashes, near_pairs
from pocketclip.stages.watch import SILENT, Watch


@dataclass(frozen=True)
class Duplicates:
    """What becomes of each sample."""

    keeper: Integers
    """(N,), the sample that stands for this one: itself where it stays, -1 where a held-out picture is near."""
    held_out: Integers
    """(N,), place of a held-out hash that is near, -1 where there is none."""


def find_duplicates(
    hashes: Hashes, priority: Integers, held_out: Hashes, max_distance: int, watch: Watch = SILENT
) -> Duplicates:
    """Decide which samples stay, such that no two of them are near each other or a held-out one.

    Samples take their turn by priority, equal ones in their order. One stays unless it is near one that stays already.
    So every sample that goes is near one that stays, and chains of small changes do not drag in distant pictures.

    `hashes` (N,) and `priority` (N,), higher first, are of the samples, `held_out` (H,) the hashes of pictures that
    must not stay, themselves or nearly; two are near at `max_distance` bits.
    """
    unique, of_each = np.unique(np.concatenate([hashes, held_out]), return_inverse=True)
    of_sample, of_held = of_each[: len(hashes)], of_each[len(hashes) :]
    first, second = near_pairs(unique, max_distance, watch)
    near_held = _near_held_out(len(unique), of_held, first, second)
    order = np.argsort(-priority, kind="stable")
    turn = np.empty(len(hashes), np.int64)
    turn[order] = np.arange(len(hashes))
    best_turn = np.full(len(unique), len(hashes), np.int64)  # by hash: of its sample that comes first
    np.minimum.at(best_turn, of_sample, turn)
    takes_part = (near_held < 0) & (best_turn < len(hashes))
    both = takes_part[first] & takes_part[second]
    standing = _stand_in_turn(best_turn, first[both], second[both])
    here = near_held[of_sample]
    kept = np.flatnonzero(here < 0)
    keeper = np.full(len(hashes), -1, np.int64)
    keeper[kept] = order[best_turn[standing[of_sample[kept]]]]
    return Duplicates(keeper, here)


def _near_held_out(count: int, of_held: Integers, first: Integers, second: Integers) -> Integers:
    """By hash, the lowest place of an equal held-out hash, else of a near one, else -1."""
    none = len(of_held)
    equal, near = np.full(count, none, np.int64), np.full(count, none, np.int64)
    np.minimum.at(equal, of_held, np.arange(none))
    np.minimum.at(near, first, equal[second])
    np.minimum.at(near, second, equal[first])
    lowest = np.where(equal < none, equal, near)
    return np.where(lowest < none, lowest, -1)


def _stand_in_turn(turn: Integers, first: Integers, second: Integers) -> Integers:
    """By hash, the hash that stands for it, given the pairs of near ones: itself, unless an earlier one stays."""
    standing = np.arange(len(turn))
    swapped = turn[first] > turn[second]
    earlier, later = np.where(swapped, second, first), np.where(swapped, first, second)
    by_turn = np.lexsort((turn[later], turn[earlier]))  # what becomes of the earlier is settled when its pairs come
    for one, other in zip(earlier[by_turn].tolist(), later[by_turn].tolist(), strict=True):
        if standing[one] == one and standing[other] == other:
            standing[other] = one
    return standing
