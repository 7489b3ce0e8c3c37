"""Mixing sources: what is taken, what stays, and in which order."""

import numpy as np
import pytest

from pocketclip.curate.mix import Measured, MixConfig, Plan, draw, make_plan, parse_part
from pocketclip.errors import UserError


@pytest.mark.parametrize(
    ("text", "source", "weight"),
    [
        ("folder:a", "folder:a", 1.0),
        ("folder:a@0.25", "folder:a", 0.25),
        ("folder:a@1", "folder:a", 1.0),
        ("folder:me@home", "folder:me@home", 1.0),
        ("folder:me@home@.5", "folder:me@home", 0.5),
        ("folder:a@2@1", "folder:a@2", 1.0),
    ],
)
def test_the_last_number_behind_an_at_is_the_weight(text: str, source: str, weight: float) -> None:
    part = parse_part(text)
    assert (part.source, part.weight) == (source, weight)


@pytest.mark.parametrize("weight", ["0", "-1", "1.5", "nan", "inf"])
def test_a_weight_that_is_no_share_is_refused(weight: str) -> None:
    with pytest.raises(UserError, match=rf"folder:a@{weight}: the weight behind @ .* \(got {weight}\)"):
        parse_part(f"folder:a@{weight}")


def test_no_source_and_a_distance_out_of_range_are_refused() -> None:
    with pytest.raises(UserError) as caught:
        MixConfig.parse({"parts": [], "max_distance": 17}, place="mix")
    assert "mix: parts: " in str(caught.value)
    assert "mix: max_distance: " in str(caught.value)


def test_a_draw_is_a_share_the_same_every_time_and_holds_the_smaller_ones() -> None:
    half, fifth = draw(1000, 0.5, 3), draw(1000, 0.2, 3)
    assert (len(half), len(fifth)) == (500, 200)
    assert np.all(np.diff(half) > 0)
    assert set(fifth) < set(half)
    assert np.array_equal(half, draw(1000, 0.5, 3))
    assert not np.array_equal(half, draw(1000, 0.5, 4))
    assert np.array_equal(draw(7, 1.0, 5), np.arange(7))
    assert len(draw(10, 0.001, 0)) == 1


def measured(hashes: list[int], counts: list[int] | None = None, first: int = 0) -> Measured:
    number = len(hashes)
    return Measured(
        np.arange(first, first + number),
        np.array(hashes, np.uint64),
        np.array(counts or [1] * number, np.int64),
        np.zeros(7, np.int64),
        0,
    )


def plan(*sources: Measured, held: tuple[int, ...] = (), join: bool = False, max_distance: int = 0) -> Plan:
    return make_plan(sources, np.array(held, np.uint64), max_distance=max_distance, join_captions=join)


def written(made: Plan) -> list[tuple[int, int]]:
    return list(zip(made.sources.tolist(), made.indices.tolist(), strict=True))


def test_the_first_of_equals_stays_whatever_source_it_is_from() -> None:
    made = plan(measured([7, 8]), measured([8, 9]))
    assert sorted(written(made)) == [(0, 0), (0, 1), (1, 1)]
    assert made.duplicates.tolist() == [0, 1]


def test_the_one_with_more_captions_stays() -> None:
    made = plan(measured([7, 8], [1, 1]), measured([8, 9], [5, 1]))
    assert sorted(written(made)) == [(0, 0), (1, 0), (1, 1)]
    assert made.duplicates.tolist() == [1, 0]


def test_held_out_comes_before_without_caption_before_duplicate() -> None:
    made = plan(measured([1, 2, 3, 3, 2], [0, 2, 1, 0, 1]), held=(1,))
    assert sorted(written(made)) == [(0, 1), (0, 2)]
    assert made.held_out.tolist() == [[0, 0, 0]]
    assert made.without_caption.tolist() == [1]
    assert made.duplicates.tolist() == [1]


def test_captions_of_duplicates_are_joined_to_the_one_that_stays() -> None:
    sources = (measured([5, 6, 5], [1, 1, 0]), measured([6, 6, 7], [1, 3, 1]))
    made = plan(*sources, join=True)
    joined = {place: list(made.joined_to(number)) for number, place in enumerate(written(made))}
    assert joined == {(0, 0): [], (1, 1): [(0, 1), (1, 0)], (1, 2): []}
    assert all(not plan(*sources).joined_to(number) for number in range(3))


def test_what_stays_is_spread_evenly_in_the_order_of_each_source() -> None:
    made = plan(measured(list(range(40))), measured(list(range(100, 110))), measured(list(range(200, 205))))
    for source in range(3):
        indices = made.indices[made.sources == source]
        assert np.array_equal(indices, np.sort(indices))
    for start in range(0, 55, 11):  # 8 + 2 + 1
        assert np.all(np.abs(np.bincount(made.sources[start : start + 11], minlength=3) - [8, 2, 1]) <= 1)


def test_nothing_at_all_makes_an_empty_plan() -> None:
    made = plan(measured([1, 1], [0, 0]), measured([]))
    assert written(made) == []
    assert made.without_caption.tolist() == [2, 0]
