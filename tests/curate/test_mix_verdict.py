"""Mixing sources: what stays, and in which order."""

import numpy as np

from pocketclip.curate.mix_verdict import Hashed, MixVerdict, judge


def hashed(hashes: list[int], counts: list[int] | None = None, first: int = 0) -> Hashed:
    number = len(hashes)
    return Hashed(
        np.arange(first, first + number),
        np.array(hashes, np.uint64),
        np.array(counts or [1] * number, np.int64),
        np.zeros((1, 7), np.int64),
    )


def verdict(*sources: Hashed, held: tuple[int, ...] = (), join: bool = False, max_distance: int = 0) -> MixVerdict:
    return judge(sources, np.array(held, np.uint64), max_distance=max_distance, join_captions=join)


def written(made: MixVerdict) -> list[tuple[int, int]]:
    return list(zip(made.selection.sources.tolist(), made.selection.indices.tolist(), strict=True))


def test_the_first_of_equals_stays_whatever_source_it_is_from() -> None:
    made = verdict(hashed([7, 8]), hashed([8, 9]))
    assert sorted(written(made)) == [(0, 0), (0, 1), (1, 1)]
    assert made.duplicates.tolist() == [0, 1]


def test_the_one_with_more_captions_stays() -> None:
    made = verdict(hashed([7, 8], [1, 1]), hashed([8, 9], [5, 1]))
    assert sorted(written(made)) == [(0, 0), (1, 0), (1, 1)]
    assert made.duplicates.tolist() == [1, 0]


def test_held_out_comes_before_without_caption_before_duplicate() -> None:
    made = verdict(hashed([1, 2, 3, 3, 2], [0, 2, 1, 0, 1]), held=(1,))
    assert sorted(written(made)) == [(0, 1), (0, 2)]
    assert made.held_out.tolist() == [[0, 0, 0]]
    assert made.without_caption.tolist() == [1]
    assert made.duplicates.tolist() == [1]


def test_captions_of_duplicates_are_joined_to_the_one_that_stays() -> None:
    sources = (hashed([5, 6, 5], [1, 1, 0]), hashed([6, 6, 7], [1, 3, 1]))
    made = verdict(*sources, join=True)
    joined = {place: list(made.selection.joined_to(number)) for number, place in enumerate(written(made))}
    assert joined == {(0, 0): [], (1, 1): [(0, 1), (1, 0)], (1, 2): []}
    assert all(not verdict(*sources).selection.joined_to(number) for number in range(3))


def test_what_stays_is_spread_evenly_in_the_order_of_each_source() -> None:
    made = verdict(hashed(list(range(40))), hashed(list(range(100, 110))), hashed(list(range(200, 205))))
    for source in range(3):
        indices = made.selection.indices[made.selection.sources == source]
        assert np.array_equal(indices, np.sort(indices))
    for start in range(0, 55, 11):  # 8 + 2 + 1
        assert np.all(np.abs(np.bincount(made.selection.sources[start : start + 11], minlength=3) - [8, 2, 1]) <= 1)


def test_nothing_at_all_makes_an_empty_selection() -> None:
    made = verdict(hashed([1, 1], [0, 0]), hashed([]))
    assert written(made) == []
    assert made.without_caption.tolist() == [2, 0]
