import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import encode_picture
from pocketclip.data import open_source
from pocketclip.data import source as source_module
from pocketclip.data.source import (
    ImageFiles,
    PackedTexts,
    Source,
    Subset,
    caption_id,
    clean_captions,
    file_stamp,
    hold_out,
    locate,
    read_file,
    read_text,
    readable_captions,
    safe_key,
    unique_keys,
    unique_packed_keys,
)
from pocketclip.errors import BrokenItemError, UserError


def image_files(folder: Path, captions: list[tuple[str, ...]]) -> ImageFiles:
    paths = []
    for number in range(len(captions)):
        path = folder / f"{number}.jpg"
        path.write_bytes(encode_picture(number))
        paths.append(path)
    return ImageFiles("test", paths, captions, [str(number) for number in range(len(captions))])


# locate


def test_a_place_that_exists_is_taken_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETCLIP_DATA", str(tmp_path / "elsewhere"))
    assert locate(tmp_path) == tmp_path


def test_a_relative_place_is_looked_for_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sets" / "flickr").mkdir(parents=True)
    monkeypatch.setenv("POCKETCLIP_DATA", str(tmp_path / "sets"))
    assert locate(Path("flickr")) == tmp_path / "sets" / "flickr"


def test_the_data_folder_is_data_when_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "flickr").mkdir(parents=True)
    monkeypatch.delenv("POCKETCLIP_DATA")
    monkeypatch.chdir(tmp_path)
    assert locate(Path("flickr")) == Path("data") / "flickr"


def test_the_current_folder_comes_before_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("here/flickr", "sets/flickr"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("POCKETCLIP_DATA", str(tmp_path / "sets"))
    assert locate(Path("flickr")) == Path("flickr")


def test_a_place_in_neither_folder_is_named_with_both_and_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCKETCLIP_DATA", str(tmp_path))
    with pytest.raises(UserError, match="No such file or folder: flickr") as caught:
        locate(Path("flickr"))
    assert str(tmp_path / "flickr") in str(caught.value)
    assert "POCKETCLIP_DATA" in str(caught.value)


def test_an_absolute_place_is_not_looked_for_below_the_data_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        locate(tmp_path / "none")
    assert f"(looked at {tmp_path / 'none'})" in str(caught.value)


# Files


def test_a_missing_picture_is_a_broken_item(tmp_path: Path) -> None:
    with pytest.raises(BrokenItemError, match="No such file") as caught:
        read_file(tmp_path / "none.jpg")
    assert str(caught.value).startswith(f"{tmp_path / 'none.jpg'}: ")


def test_a_folder_named_like_a_picture_is_a_broken_item(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(BrokenItemError, match="cannot read the file"):
        read_file(tmp_path / "a.jpg")


def test_a_file_over_the_size_limit_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(b"12345")
    monkeypatch.setattr(source_module, "MAX_FILE_BYTES", 5)
    assert read_file(tmp_path / "a.jpg") == b"12345"
    monkeypatch.setattr(source_module, "MAX_FILE_BYTES", 4)
    with pytest.raises(BrokenItemError, match=r"a\.jpg: 5 bytes are over the limit of 4"):
        read_file(tmp_path / "a.jpg")


def test_a_text_with_a_byte_order_mark_loses_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("image,caption".encode("utf-8-sig"))
    assert read_text(tmp_path / "a.csv") == "image,caption"


def test_invalid_utf8_names_the_line_and_the_byte(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"good\ngood\nb\xe4d\n")
    with pytest.raises(UserError, match=r"a\.csv: line 3: not valid UTF-8 \(byte 0xe4\)\. Save the file as UTF-8"):
        read_text(tmp_path / "a.csv")


def test_a_file_stamp_follows_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    before = file_stamp(path)
    assert file_stamp(path) == before
    os.utime(path, ns=(1, 1))
    touched = file_stamp(path)
    path.write_bytes(b"longer")
    os.utime(path, ns=(1, 1))
    assert len({str(stamp) for stamp in (before, touched, file_stamp(path), file_stamp(tmp_path / "none"))}) == 4


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
    assert list(unique_packed_keys(packed)) == ["", *unique_keys(keys), ""]


def test_packed_keys_that_differ_stay_as_they_are() -> None:
    packed = PackedTexts(["b", "", "grün", "狗"])
    assert unique_packed_keys(packed) is packed
    assert (len(packed), packed[2], packed[3]) == (4, "grün", "狗")


@repeated_texts
def test_keys_are_unique_and_the_first_of_a_name_keeps_it(texts: list[str]) -> None:
    keys = unique_keys(texts)
    assert len(set(keys)) == len(texts)
    assert keys[0] == safe_key(texts[0])
    assert all(key.startswith(safe_key(text)) for key, text in zip(keys, texts, strict=True))


# ImageFiles and Subset


def test_image_files_give_bytes_and_clean_captions(tmp_path: Path) -> None:
    source = image_files(tmp_path, [(" one ", ""), ("two", "three")])
    assert isinstance(source, Source)
    assert source[0].image == encode_picture(0)
    assert source[0].captions == source.captions(0) == ("one",)
    assert source[1].captions == ("two", "three")
    assert source[1].place == str(tmp_path / "1.jpg")


def test_captions_are_there_where_the_picture_is_missing(tmp_path: Path) -> None:
    source = image_files(tmp_path, [("one",), ("two",)])
    source.paths[0].unlink()
    assert source.captions(0) == ("one",)
    with pytest.raises(BrokenItemError, match="No such file"):
        source[0]
    assert source[1].captions == ("two",)


def test_a_fingerprint_holds_while_nothing_changes(tmp_path: Path) -> None:
    source = image_files(tmp_path, [("one",), ("two",)])
    assert source.fingerprint() == ImageFiles("other", source.paths, source.texts, source.keys).fingerprint()


@pytest.mark.parametrize("change", ["caption", "picture", "time", "missing", "order"])
def test_a_fingerprint_follows_every_change(tmp_path: Path, change: str) -> None:
    source = image_files(tmp_path, [("one",), ("two",)])
    before, texts, paths, keys = source.fingerprint(), list(source.texts), list(source.paths), list(source.keys)
    if change == "caption":
        texts[1] = ("new",)
    elif change == "picture":
        paths[1].write_bytes(encode_picture(9, (64, 64)))
    elif change == "time":
        os.utime(paths[1], ns=(1, 1))
    elif change == "missing":
        paths[1].unlink()
    else:
        texts, paths, keys = texts[::-1], paths[::-1], keys[::-1]
    assert ImageFiles("test", paths, texts, keys).fingerprint() != before


def test_a_subset_gives_the_chosen_samples_in_order(tmp_path: Path) -> None:
    source = image_files(tmp_path, [("one",), ("two",), ("three",)])
    subset = Subset(source, np.array([2, 0]), "part")
    assert len(subset) == 2
    assert [subset[number].key for number in range(2)] == ["2", "0"]
    assert [subset.captions(number) for number in range(2)] == [("three",), ("one",)]


def test_a_subset_has_a_fingerprint_of_its_own(tmp_path: Path) -> None:
    source = image_files(tmp_path, [("one",), ("two",), ("three",)])
    prints = {Subset(source, np.array(chosen), "part").fingerprint() for chosen in ([0, 1], [1, 0], [0, 1, 2], [0, 1])}
    assert len(prints) == 3
    assert source.fingerprint() not in prints


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
    with pytest.raises(UserError, match=r"scenes:3: 3 image\(s\) are too few to hold some out; give data\.val"):
        hold_out(open_source("scenes:3"), 0.5)
