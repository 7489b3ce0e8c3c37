"""The search for near hashes against comparing all pairs, and who stays against taking turns by hand."""

import numpy as np
import numpy.typing as npt
import pytest

from pocketclip.curate.near_duplicates import find_duplicates
from pocketclip.data.pictures import near_pairs as near
from pocketclip.data.pictures.near_pairs import near_pairs

Hashes = npt.NDArray[np.uint64]


def clustered(count: int, seed: int, most: int = 7) -> Hashes:
    """Different hashes, many of them a few flipped bits from another."""
    random = np.random.default_rng(seed)
    centres = random.integers(0, 2**63, count // 4, dtype=np.uint64)
    hashes = random.choice(centres, count)
    for row in range(count):
        for bit in random.choice(64, random.integers(0, most), replace=False):
            hashes[row] ^= np.uint64(1) << np.uint64(bit)
    return hashes


def all_pairs(hashes: Hashes, max_distance: int) -> set[tuple[int, int]]:
    values = hashes.tolist()
    return {
        (first, second)
        for second in range(len(values))
        for first in range(second)
        if (values[first] ^ values[second]).bit_count() <= max_distance
    }


@pytest.mark.parametrize("max_distance", [0, 1, 2, 4, 7, 12, 16])
@pytest.mark.parametrize("seed", [0, 1])
def test_pairs_equal_comparing_all_of_them(max_distance: int, seed: int) -> None:
    hashes = np.unique(clustered(200, seed))
    first, second = near_pairs(hashes, max_distance)
    found = list(zip(first.tolist(), second.tolist(), strict=True))
    assert len(found) == len(set(found))
    assert set(found) == all_pairs(hashes, max_distance)
    assert max_distance < 4 or len(found) > 20


@pytest.mark.parametrize("num_bands", [5, 6, 9])
def test_any_number_of_bands_finds_the_same(num_bands: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "choose_num_bands", lambda count, distance: num_bands)
    hashes = np.unique(clustered(150, 3))
    first, second = near_pairs(hashes, 4)
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == all_pairs(hashes, 4)


def test_hashes_that_share_most_bits_are_found_too() -> None:
    hashes = np.arange(64, dtype=np.uint64)  # one long run in nearly every table
    first, second = near_pairs(hashes, 2)
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == all_pairs(hashes, 2)


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_and_one_have_no_pairs(count: int) -> None:
    first, second = near_pairs(np.zeros(count, np.uint64), 4)
    assert len(first) == len(second) == 0


def test_the_search_compares_few_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    count_bits = np.bitwise_count

    def counting(values: Hashes) -> npt.NDArray[np.uint8]:
        nonlocal compared
        compared += len(values)
        return count_bits(values)

    monkeypatch.setattr(near.np, "bitwise_count", counting)
    hashes = np.random.default_rng(0).integers(0, 2**64, 50_000, dtype=np.uint64)
    near_pairs(np.unique(hashes), 4)
    assert compared < 50_000 * 50_000 / 2 / 20


def turns_by_hand(hashes: Hashes, priority: list[int], held: Hashes, max_distance: int) -> list[int]:
    def near(one: np.uint64, other: np.uint64) -> bool:
        return (int(one) ^ int(other)).bit_count() <= max_distance

    keeper = [-1] * len(hashes)
    staying: list[int] = []
    for sample in sorted(range(len(hashes)), key=lambda number: (-priority[number], number)):
        if any(near(hashes[sample], other) for other in held):
            continue
        stands = [other for other in staying if near(hashes[sample], hashes[other])]
        keeper[sample] = -2 if stands else sample  # by any of them
        if not stands:
            staying.append(sample)
    return keeper


@pytest.mark.parametrize("max_distance", [0, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_who_stays_equals_taking_turns_by_hand(max_distance: int, seed: int) -> None:
    hashes = clustered(160, seed, most=4)
    held, mine = hashes[:20], hashes[20:]
    priority = np.random.default_rng(seed).integers(0, 3, len(mine))
    found = find_duplicates(mine, priority, held, max_distance)
    expected = turns_by_hand(mine, priority.tolist(), held, max_distance)
    own = np.arange(len(mine))
    assert np.array_equal(found.keeper == own, np.array(expected) == own)
    assert np.array_equal(found.keeper == -1, np.array(expected) == -1)
    assert np.array_equal(found.held_out >= 0, found.keeper == -1)
    for sample, keeper in enumerate(found.keeper.tolist()):
        other = held[found.held_out[sample]] if keeper == -1 else mine[keeper]
        assert (int(mine[sample]) ^ int(other)).bit_count() <= max_distance
    assert {-1, -2} <= set(expected)


def test_a_chain_of_small_changes_does_not_reach_its_far_end() -> None:
    chain = np.array([0, 0b11, 0b1111, 0b111111], np.uint64)
    found = find_duplicates(chain, np.zeros(4, np.int64), np.zeros(0, np.uint64), 2)
    assert found.keeper.tolist() == [0, 0, 2, 2]


def test_an_equal_held_out_picture_is_named_before_a_near_one() -> None:
    held = np.array([1, 0], np.uint64)
    found = find_duplicates(np.array([0], np.uint64), np.zeros(1, np.int64), held, 4)
    assert found.held_out.tolist() == [1]
