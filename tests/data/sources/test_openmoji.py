from collections.abc import Iterable

import numpy as np
import pytest

from pocketclip.data import open_source
from pocketclip.data.keys import safe_key
from pocketclip.data.sources.openmoji import SPLIT_SHARES, OpenmojiSource, concept_of, split_of
from pocketclip.errors import UserError
from pocketclip.preprocess import decode_image


def emoji(spec: str = "openmoji") -> OpenmojiSource:
    source = open_source(spec)
    assert isinstance(source, OpenmojiSource)
    return source


@pytest.fixture(scope="module")
def everything() -> OpenmojiSource:
    return emoji()


def names(source: OpenmojiSource) -> list[str]:
    return [source.captions(index)[0] for index in range(len(source))]


# Which emoji there are


def test_there_are_about_1900_emoji_of_one_name_each(everything: OpenmojiSource) -> None:
    assert 1800 <= len(everything) <= 2100
    assert len(set(names(everything))) == len(everything)
    assert all(len(everything.captions(index)) == 1 for index in range(len(everything)))


def test_keys_are_unique_file_names(everything: OpenmojiSource) -> None:
    keys = [path.stem for path, _ in everything.entries]
    assert len(set(keys)) == len(keys)
    assert all(safe_key(key) == key for key in keys)
    assert everything[7].key == keys[7]


def test_no_emoji_has_a_skin_tone(everything: OpenmojiSource) -> None:
    assert not [name for name in names(everything) if "skin tone" in name]
    assert "waving hand" in names(everything)


@pytest.mark.parametrize(
    "name",
    [
        "grinning face",
        "dog face",
        "pizza",
        "flag for Norway",
        "flag for Scotland",
        "woman running",
        "keycap 7",
        "ninja",
    ],
)
def test_well_known_emoji_have_their_unicode_names(everything: OpenmojiSource, name: str) -> None:
    assert name in names(everything)


def test_names_are_words_without_colons_and_underscores(everything: OpenmojiSource) -> None:
    assert not [name for name in names(everything) if {":", "_"} & set(name) or name != " ".join(name.split())]


def test_other_names_come_behind_the_unicode_name(everything: OpenmojiSource) -> None:
    more = emoji("openmoji:aliases=true")
    assert names(more) == names(everything)
    counts = [len(more.captions(index)) for index in range(len(more))]
    assert max(counts) > 1
    assert all(len(set(more.captions(index))) == counts[index] for index in range(len(more)))


# Splits


def test_the_splits_share_nothing_and_are_everything_together(everything: OpenmojiSource) -> None:
    parts = {split: names(emoji(f"openmoji:{split}")) for split in SPLIT_SHARES}
    assert sorted(name for part in parts.values() for name in part) == sorted(names(everything))
    for split, share in SPLIT_SHARES.items():
        assert len(parts[split]) / len(everything) == pytest.approx(share, abs=0.03)


def test_no_concept_is_in_two_splits(everything: OpenmojiSource) -> None:
    splits: dict[str, set[str]] = {}
    for split in SPLIT_SHARES:
        for name in names(emoji(f"openmoji:{split}")):
            splits.setdefault(concept_of(name), set()).add(split)
    assert [concept for concept, found in splits.items() if len(found) > 1] == []
    assert len(splits) > 1000
    assert "" not in splits


@pytest.mark.parametrize(
    "same",
    [
        ["woman running", "man running", "person running", "woman running facing right"],
        ["woman farmer", "man farmer", "farmer"],
        ["one o’clock", "twelve-thirty", "six o'clock"],
        ["family man woman boy", "family", "family woman girl girl"],
        ["couple with heart woman man", "couple with heart"],
        ["kiss man man", "kiss"],
        ["keycap 1", "keycap *"],
        ["man in tuxedo", "woman in tuxedo", "person in tuxedo"],
    ],
)
def test_who_does_it_and_which_way_they_face_is_the_same_concept(same: list[str]) -> None:
    assert len({concept_of(name) for name in same}) == 1
    assert len({split_of(name) for name in same}) == 1


def test_every_clock_face_is_in_one_split(everything: OpenmojiSource) -> None:
    clocks = [name for name in names(everything) if name.endswith((" o’clock", "-thirty"))]
    assert len(clocks) == 24
    assert len({split_of(name) for name in clocks}) == 1


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("woman running", "woman dancing"),
        ("dog", "cat"),
        ("dog", "dog face"),
        ("man", "woman"),
        ("flag for Chad", "Chad"),
    ],
)
def test_other_things_are_other_concepts(name: str, other: str) -> None:
    assert concept_of(name) != concept_of(other)


def by_drawing(source: OpenmojiSource) -> Iterable[list[str]]:
    found: dict[bytes, list[str]] = {}
    for path, captions in source.entries:
        found.setdefault(path.read_bytes(), []).append(captions[0])
    return found.values()


def test_no_drawing_is_in_two_splits(everything: OpenmojiSource) -> None:
    shared = [alike for alike in by_drawing(everything) if len({split_of(name) for name in alike}) > 1]
    assert shared == []


@pytest.mark.parametrize("same", [["old man", "old woman", "older person"], ["Santa Claus", "Mrs. Claus", "Mx Claus"]])
def test_persons_of_one_name_are_in_one_split(everything: OpenmojiSource, same: list[str]) -> None:
    assert set(same) <= set(names(everything))
    assert len({split_of(name) for name in same}) == 1


@pytest.mark.parametrize("split", ["tset", "Train"])
def test_an_unknown_split_is_refused_with_the_known_ones(split: str) -> None:
    with pytest.raises(UserError, match=rf"split: .*'train', 'val', 'test' or 'all' \(got '{split}'\)"):
        open_source(f"openmoji:{split}")


# Drawings


@pytest.mark.parametrize("image_size", [16, 72, 160])
def test_a_drawing_decodes_at_the_asked_size(image_size: int) -> None:
    source = emoji(f"openmoji:val,image_size={image_size}")
    for index in range(0, len(source), 40):
        sample = source[index]
        image = decode_image(sample.image, place=sample.place)
        assert image.size == (image_size, image_size)
        assert sample.captions == source.captions(index)
        assert sample.place.endswith(".svg")


def test_drawings_are_on_white_and_show_something() -> None:
    source = emoji("openmoji:test,image_size=48")
    for index in range(0, len(source), 20):
        pixels = np.asarray(decode_image(source[index].image, place=""))
        assert (pixels[0, 0] == 255).all()
        assert (pixels < 200).any(axis=2).mean() > 0.01


def test_the_flag_of_japan_is_a_red_disc_on_white(everything: OpenmojiSource) -> None:
    pixels = np.asarray(decode_image(everything[names(everything).index("flag for Japan")].image, place=""))
    red, green, blue = pixels[80, 80].tolist()
    assert red > 150 > green + 50
    assert red > blue + 50
    assert (pixels[80, 40] > 240).all()


def test_the_same_drawing_has_the_same_bytes(everything: OpenmojiSource) -> None:
    assert everything[5] == emoji()[5]
    assert everything.fingerprint() == emoji().fingerprint()


@pytest.mark.parametrize("other", ["openmoji:val", "openmoji:image_size=100", "openmoji:aliases=true"])
def test_every_setting_is_in_the_fingerprint(everything: OpenmojiSource, other: str) -> None:
    assert emoji(other).fingerprint() != everything.fingerprint()


@pytest.mark.parametrize("image_size", [15, 1025])
def test_a_size_out_of_range_is_refused(image_size: int) -> None:
    with pytest.raises(UserError, match=r"image_size: .*(16|1024)"):
        open_source(f"openmoji:image_size={image_size}")
