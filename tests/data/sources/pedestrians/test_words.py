"""What is written of pedestrians: true, in 10 to 25 words, in other words by another writer."""

import random
import re
from dataclasses import replace

import pytest

from pocketclip.data.sources.pedestrians.words import FEWEST_WORDS, MOST_WORDS, captions
from pocketclip.data.sources.pedestrians.world import Person, people

FACINGS = ("front", "left", "right", "back")
PEOPLE = people(300, "val", 1)


def written(person: Person, *, sides: bool, count: int = 40, facing: str = "front") -> list[str]:
    chance = random.Random(0)
    return [text for _ in range(count) for text in captions(person, facing, chance, sides=sides)]


@pytest.mark.parametrize("sides", [False, True])
def test_captions_have_ten_to_twenty_five_words(sides: bool) -> None:
    rare = people(4000, "train", 0)  # one in some thousands had too few parts to leave out
    for number, person in enumerate([*PEOPLE, *rare]):
        for text in captions(person, FACINGS[number % 4], random.Random(number), sides=sides):
            assert FEWEST_WORDS <= len(text.split()) <= MOST_WORDS, text
            assert text[0].isupper()
            assert text.endswith(".")
            assert not re.search(r"\ba [aeo]|\ban [^aeiou]|  |none", text.lower()), text


def test_two_writers_use_other_words() -> None:
    pairs = [captions(person, "front", random.Random(number), sides=False) for number, person in enumerate(PEOPLE)]
    assert all(first != second for first, second in pairs)
    openings = {text.split()[0] for pair in pairs for text in pair}
    assert len(openings) > 8


def test_the_same_thing_is_called_by_several_names() -> None:
    person = next(one for one in PEOPLE if one.description.lower == "trousers")
    texts = " ".join(written(person, sides=False))
    assert all(word in texts for word in ("trousers", "pants", "slacks"))


def test_some_parts_are_left_unsaid() -> None:
    person = next(one for one in PEOPLE if one.description.bag == "backpack" and one.description.hair == "long")
    texts = written(person, sides=False)
    told = [len(re.findall("hair", text)) for text in texts]
    assert 0 < sum(told) < len(texts)
    bags = [bool(re.search("backpack|rucksack|knapsack", text)) for text in texts]
    assert 0 < sum(bags) < len(texts)


@pytest.mark.parametrize("bag", ["handbag", "shoulder bag"])
def test_sides_are_told_where_asked_and_are_the_bodys(bag: str) -> None:
    person = next(one for one in PEOPLE if one.description.bag == bag)
    for side, other in (("left", "right"), ("right", "left")):
        person = replace(person, side=side)
        texts = written(person, sides=True)
        assert any(f" {side} " in text for text in texts)
        assert not any(f" {other} " in text for text in texts)
    assert not any(re.search("left|right", text) for text in written(person, sides=False))


def test_glasses_are_not_seen_from_behind() -> None:
    person = next(one for one in PEOPLE if one.description.extra == "glasses")
    assert any("glasses" in text or "spectacles" in text for text in written(person, sides=False))
    behind = written(person, sides=False, facing="back")
    assert not any("glasses" in text or "spectacles" in text for text in behind)
