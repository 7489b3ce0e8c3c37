import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pocketclip.data import open_source
from pocketclip.data.captions import clean_captions
from pocketclip.data.keys import PackedTexts, caption_id, safe_key, unique_keys
from pocketclip.data.source import Subset, readable_captions
from pocketclip.data.sources.image_files import ImageFiles
from pocketclip.data.splits import hold_out
from pocketclip.errors import UserError

# Captions


def test_captions_lose_surrounding_blanks_and_empty_ones_are_dropped() -> None:
    assert clean_captions(["  a  dog\t runs \n", "", "   ", "a cat"]) == ("a dog runs", "a cat")


def test_half_of_a_cut_emoji_becomes_a_question_mark() -> None:
    assert clean_captions([json.loads('"a dog \\ud83d"')]) == ("a dog ?",)


def test_a_caption_of_ten_thousand_words_is_kept_whole() -> None:
    assert clean_captions(["dog " * 10_000]) == (" ".join(["dog"] * 10_000),)


@pytest.mark.parametrize("other", ["a dog runs", "A Dog runs.", "a dog runs .", "a dog runs!"])
def test_captions_that_differ_in_case_and_closing_marks_have_one_identity(other: str) -> None:
    assert caption_id("A dog runs") == caption_id(other)


@pytest.mark.parametrize("other", ["a dog run", "a dog, runs", "dog a runs", ""])
def test_other_captions_have_other_identities(other: str) -> None:
    assert caption_id("a dog runs") != caption_id(other)


def test_caption_identities_fit_a_signed_64_bit_number() -> None:
    identities = [caption_id(f"caption {number}") for number in range(1000)]
    assert len(set(identities)) == 1000
    assert min(identities) >= 0
    assert max(identities) < 2**63


# Keys


@pytest.mark.parametrize("text", ["a/b.c", "../x", "a b", "a\0b", "x" * 500, "", "..", "狗.狗"])
def test_a_safe_key_is_one_plain_file_name(text: str) -> None:
    key = safe_key(text)
    assert 0 < len(key) <= 200
    assert not set(key) & set("/. \0")


repeated_texts = pytest.mark.parametrize(
    "texts",
    [
        ["a", "a", "a"],
        ["a", "a", "a-2"],
        ["a-2", "a", "a"],
        ["a-2", "a-2", "a", "a", "a"],
        ["a/b", "a.b", "a b", "a_b"],
    ],
)


@repeated_texts
def test_packed_keys_become_unique_like_others(texts: list[str]) -> None:
    keys = [safe_key(text) for text in texts]
    packed = PackedTexts(["", *keys, ""])
    assert list(packed) == ["", *keys, ""]
    assert list(packed.as_unique_keys()) == ["", *unique_keys(keys), ""]


def test_packed_keys_that_differ_stay_as_they_are() -> None:
    packed = PackedTexts(["b", "", "grün", "狗"])
    assert packed.as_unique_keys() is packed
    assert (len(packed), packed[2], packed[3]) == (4, "grün", "狗")


def test_packed_texts_need_not_be_utf_8() -> None:
    assert list(PackedTexts(["caf\udce9", "\ud83d", "é"])) == ["caf\udce9", "\ud83d", "é"]


@repeated_texts
def test_keys_are_unique_and_the_first_of_a_name_keeps_it(texts: list[str]) -> None:
    keys = unique_keys(texts)
    assert len(set(keys)) == len(texts)
    assert keys[0] == safe_key(texts[0])
    assert all(key.startswith(safe_key(text)) for key, text in zip(keys, texts, strict=True))


# Subset


def test_a_subset_gives_the_chosen_samples_in_order(tmp_path: Path, image_files: Callable[..., ImageFiles]) -> None:
    source = image_files(tmp_path, [("one",), ("two",), ("three",)])
    subset = Subset(source, np.array([2, 0]), "part")
    assert len(subset) == 2
    assert [subset[number].key for number in range(2)] == ["2", "0"]
    assert [subset.captions(number) for number in range(2)] == [("three",), ("one",)]


def test_a_subset_has_a_fingerprint_of_its_own(tmp_path: Path, image_files: Callable[..., ImageFiles]) -> None:
    source = image_files(tmp_path, [("one",), ("two",), ("three",)])
    prints = {Subset(source, np.array(chosen), "part").fingerprint() for chosen in ([0, 1], [1, 0], [0, 1, 2], [0, 1])}
    assert len(prints) == 3
    assert source.fingerprint() not in prints


def test_a_subset_of_labelled_images_has_their_classes() -> None:
    whole = open_source("scenes:6,classes=shape")
    part = Subset(whole, np.array([4, 1]), "part")
    assert part.class_names == whole.class_names
    assert [part.label(number) for number in range(2)] == [whole.label(4), whole.label(1)]
    assert part.gives == {"captions", "classes"}


def test_a_subset_of_pairs_has_none_since_it_may_tear_them_apart() -> None:
    whole = open_source("scene_pairs:8")
    part = Subset(whole, np.array([0, 3]), "part")
    assert (whole.images_per_example, part.images_per_example, part.pairs) == (2, 1, None)
    assert part.gives == {"captions"}


def test_a_source_gives_captions_alone_where_it_says_no_more(
    tmp_path: Path, image_files: Callable[..., ImageFiles]
) -> None:
    source = image_files(tmp_path, [("one",)])
    assert source.gives == {"captions"}
    assert (source.class_names, source.label(0), source.pairs, source.stored) == (None, None, None, None)


def test_captions_of_broken_samples_are_empty(make_folder: Callable[..., Path]) -> None:
    folder = make_folder(3, 1)
    (folder / "001.txt").write_bytes(b"b\xe4d")
    source = open_source(f"folder:{folder}")
    assert list(readable_captions(source)) == [("picture 0 caption 0",), (), ("picture 2 caption 0",)]


# hold_out


@pytest.mark.parametrize(("count", "share", "expected"), [(4, 0.1, 1), (10, 0.2, 2), (10, 0.9, 5), (100, 0.05, 5)])
def test_held_out_images_are_in_one_part_only(count: int, share: float, expected: int) -> None:
    source = open_source(f"scenes:{count}")
    rest, held = hold_out(source, share)
    assert len(held) == expected
    keys = [part[number].key for part in (rest, held) for number in range(len(part))]
    assert sorted(keys) == sorted(source[number].key for number in range(count))


def test_the_same_images_are_held_out_every_time() -> None:
    first, second = (hold_out(open_source("scenes:20"), 0.2)[1] for _ in range(2))
    assert first.fingerprint() == second.fingerprint()


def test_held_out_images_are_spread_over_the_source() -> None:
    _, held = hold_out(open_source("scenes:1000"), 0.1)
    numbers = np.array([int(held[number].key.split("-")[1]) for number in range(len(held))])
    assert (np.diff(numbers) > 0).all()
    assert np.histogram(numbers, bins=5, range=(0, 1000))[0].min() >= 10


def test_too_few_images_to_hold_some_out_are_named() -> None:
    with pytest.raises(
        UserError, match=r"scenes:3: 3 different image\(s\) are too few to hold some out; give data\.val"
    ):
        hold_out(open_source("scenes:3"), 0.5)
