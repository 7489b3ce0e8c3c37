"""Drawn pedestrians as a source: the same pictures whatever else is set, and different people that look different."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from pocketclip.data import open_source
from pocketclip.data.identities import read_identities
from pocketclip.errors import UserError


def pixels(image: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image)), np.float32)


def test_views_of_one_person_stand_together_and_name_whom_they_show() -> None:
    source = open_source("pedestrians:5,split=test")
    assert (len(source), source.name) == (20, "pedestrians:5#test")
    people = read_identities(source)
    assert people.num_images.tolist() == [4] * 5
    assert people.names[0] == "test-00000"
    keys = [source.key(index) for index in range(20)]
    assert len(set(keys)) == len({source.picture_id(index) for index in range(20)}) == 20
    sample = source[6]
    assert (sample.identity, sample.key, len(sample.captions)) == ("test-00001", "test-00001-02", 2)
    assert sample.captions == source.captions(6)
    assert {source.metadata(index)["facing"] for index in range(4)} == {"front", "left", "right", "back"}
    with pytest.raises(IndexError):
        source[20]


def test_pictures_are_384_high_and_128_wide() -> None:
    sample = open_source("pedestrians:1")[0]
    assert Image.open(io.BytesIO(sample.image)).size == (128, 384)


@pytest.mark.parametrize("other", ["pedestrians:3", "pedestrians:3,sides=true", "pedestrians:9,views=4"])
def test_no_other_setting_changes_a_picture(other: str) -> None:
    first, second = open_source("pedestrians:3"), open_source(other)
    assert [first[index].image for index in range(12)] == [second[index].image for index in range(12)]


def test_fewer_views_are_the_first_of_more() -> None:
    few, many = open_source("pedestrians:3,views=2"), open_source("pedestrians:3,views=6")
    for person in range(3):
        for view in range(2):
            assert few[2 * person + view].image == many[6 * person + view].image
            assert few.captions(2 * person + view) == many.captions(6 * person + view)


def test_splits_and_seeds_show_others() -> None:
    others = ("seed=0", "seed=1", "split=val", "split=test")
    images = {open_source(f"pedestrians:1,{each}")[0].image for each in others}
    assert len(images) == 4
    prints = {
        open_source(spec).fingerprint() for spec in ("pedestrians:3", "pedestrians:3,sides=true", "pedestrians:4")
    }
    assert len(prints) == 3


def test_clothes_are_seen_in_the_colour_that_is_told() -> None:
    source = open_source("pedestrians:900,split=val")
    colours = {"red": (0, 1), "blue": (2, 0), "green": (1, 0)}
    checked = 0
    for person, one in enumerate(source.people):  # type: ignore[attr-defined]
        told = one.description
        if told.upper != "long-sleeved shirt" or told.pattern != "plain" or told.bag == "backpack":
            continue
        if told.upper_colour in colours:
            high, low = colours[told.upper_colour]
            chest = pixels(source[4 * person].image)[110:170, 52:76].mean(axis=(0, 1))
            checked += 1
            assert chest[high] > chest[low] + 20, (person, told, chest)
    assert checked > 3


def test_a_picture_takes_a_few_milliseconds() -> None:
    source = open_source("pedestrians:20")
    for index in range(40):
        source[index]
    started = time.process_time()
    for index in range(80):
        source[index]
    assert (time.process_time() - started) / 80 < 0.02  # 3.5 ms where nothing else runs


@pytest.mark.parametrize("spec", ["pedestrians:0", "pedestrians:3,split=dev", "pedestrians:3,views=0"])
def test_settings_that_are_none_are_refused(spec: str) -> None:
    with pytest.raises(UserError):
        open_source(spec)
