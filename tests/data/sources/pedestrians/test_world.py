"""Who drawn pedestrians are: nobody of one split is described as somebody of another."""

import random
from collections import Counter
from dataclasses import fields, replace

import pytest

from pocketclip.data.sources.pedestrians.world import (
    COLOURS,
    LOWERS,
    SPLITS,
    UPPERS,
    Description,
    describe,
    people,
    split_of,
)


@pytest.mark.parametrize("seeds", [(0, 0, 0), (0, 1, 2), (3, 3, 5)])
def test_no_full_description_is_in_two_splits_or_twice_in_one(seeds: tuple[int, int, int]) -> None:
    found = [
        {person.description for person in people(400, split, seed)} for split, seed in zip(SPLITS, seeds, strict=True)
    ]
    assert [len(part) for part in found] == [400, 400, 400]
    assert len(set.union(*found)) == 1200


def test_the_split_hangs_on_the_description_alone() -> None:
    described = [describe(random.Random(seed)) for seed in range(600)]
    counts = Counter(map(split_of, described))
    assert all(140 < counts[split] < 260 for split in SPLITS)
    assert [split_of(one) for one in described] == [split_of(replace(one)) for one in described]


def test_of_more_people_the_first_are_those_of_fewer() -> None:
    assert people(50, "test", 4)[:20] == people(20, "test", 4)
    assert people(20, "test", 4) != people(20, "test", 5)


def test_everything_occurs_and_goes_together() -> None:
    described = [person.description for person in people(1500, "train", 0)]
    for name, known in (("upper", {*UPPERS, "dress"}), ("lower", {*LOWERS, "none"}), ("upper_colour", set(COLOURS))):
        assert {getattr(one, name) for one in described} == known
    for one in described:
        assert (one.upper == "dress") == (one.lower == "none") == (one.lower_colour == "none")
        assert (one.bag == "none") == (one.bag_colour == "none")
        assert (one.hair == "bald") == (one.hair_colour == "none")
    assert {field.name for field in fields(Description)} >= {"sex", "shoes", "extra"}
