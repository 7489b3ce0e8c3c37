"""Which of millions of hashes lie within a Hamming distance, and which samples then stay."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketclip.curate.selection import Integers
from pocketclip.stages.watch import SILENT, Watch

Hashes = npt.NDArray[np.uint64]
BITS = 64
MAX_DISTANCE = 16
"""Larger distances would call pictures duplicates that share no more than their layout."""
_SORT_COST = 10  # of a number in a table, in comparisons


def near_pairs(hashes: Hashes, max_distance: int, watch: Watch = SILENT) -> tuple[Integers, Integers]:
    """Every pair of different hashes (N,) that differ in at most `max_distance` bits, 0 to `MAX_DISTANCE`.

    The bits are cut into `b` bands. Two hashes that differ in at most `d` bits agree wholly in at least `b - d` of
    them, so sorting by each choice of `b - d` bands brings every such pair together once at least, and only hashes
    equal in those bands are compared. Reference: G. S. Manku, A. Jain, A. Das Sarma, Detecting Near-Duplicates for Web
    Crawling, WWW 2007, section 3. Memory grows with the number of hashes and of pairs found.
    Gives (P,) and (P,), the places of both, the lower place first; each pair once, in order.
    """
    count, codes = len(hashes), [np.zeros(0, np.int64)]
    bands = _bands(choose_num_bands(count, max_distance))
    tables = list(itertools.combinations(bands, len(bands) - max_distance)) if max_distance and count > 1 else []
    for number, table in enumerate(tables):
        watch.work("finding duplicates", number, len(tables))
        pairs = _pairs_in_table(hashes, sum(table), max_distance)
        codes = [np.unique(np.concatenate([*codes, *(first * count + second for first, second in pairs)]))]
    return codes[0] // max(1, count), codes[0] % max(1, count)


def _pairs_in_table(hashes: Hashes, mask: int, max_distance: int) -> list[tuple[Integers, Integers]]:
    """Pairs within the distance among hashes that agree in the bits of a mask."""
    shared = hashes & np.uint64(mask)
    order = np.argsort(shared, kind="stable")
    shared, ordered = shared[order], hashes[order]
    pairs, places = [], np.arange(len(hashes))
    for offset in range(1, len(hashes)):
        places = places[places + offset < len(hashes)]
        places = places[shared[places] == shared[places + offset]]  # who has no partner here has none further on
        if not len(places):
            break
        distances = np.bitwise_count(ordered[places] ^ ordered[places + offset])
        near = places[distances <= max_distance]
        first, second = order[near], order[near + offset]
        pairs.append((np.minimum(first, second), np.maximum(first, second)))
    return pairs


def choose_num_bands(count: int, max_distance: int) -> int:
    """Bands that make the search cheapest: more of them mean more tables, but fewer chance neighbours in each."""

    def cost(num_bands: int) -> float:
        agreeing_bits = BITS * (num_bands - max_distance) / num_bands
        chance = count * count / 2 ** (agreeing_bits + 1)
        return math.comb(num_bands, max_distance) * (_SORT_COST * count + chance)

    return min(range(max_distance + 1, max_distance + 9), key=cost)


def _bands(number: int) -> list[int]:
    """The 64 bits as masks of neighbouring ones, of like width."""
    edges = [BITS * band // number for band in range(number + 1)]
    return [(1 << stop) - (1 << start) for start, stop in itertools.pairwise(edges)]


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
