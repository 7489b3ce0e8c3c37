"""Which of millions of hashes lie within a Hamming distance."""

import itertools
import math

import numpy as np
import numpy.typing as npt

from pocketclip.stages.watch import SILENT, Watch

Integers = npt.NDArray[np.int64]
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
