import json
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Told, encode_picture
from held import Held, flat_picture
from pocketclip.curate.inspect import inspect_source
from pocketclip.data import open_source

# Counts


def test_counts_of_images_captions_words_and_sizes() -> None:
    texts = [("a dog", "a brown dog runs"), ("a cat",), ("one two three", "four", "five six")]
    pictures = [encode_picture(0, (30, 20)), encode_picture(1, (50, 20)), encode_picture(2, (40, 60))]
    found = inspect_source(Held(texts, pictures, labels={1: 7}))
    assert (found.num_items, found.num_images, found.num_captions, found.num_labelled) == (3, 3, 6, 1)
    assert found.captions_per_image == {2: 1, 1: 1, 3: 1}
    assert found.words_per_caption == {2: 3, 4: 1, 3: 1, 1: 1}
    values = found.to_json()
    assert values["width"] == {"min": 30.0, "median": 40.0, "max": 50.0}
    assert values["height"] == {"min": 20.0, "median": 20.0, "max": 60.0}
    assert values["words_per_caption"] == {"min": 1.0, "median": 2.0, "max": 4.0}
    assert found.bytes == sum(map(len, pictures))


def test_an_inspection_is_one_json_object() -> None:
    values = inspect_source(open_source("scenes:5")).to_json()
    assert json.loads(json.dumps(values)) == values
    assert values["source"] == "scenes:5"
    assert values["captions_per_image"] == {"2": 5}


def test_captions_per_image_are_listed_in_ascending_order() -> None:
    values = inspect_source(Held([("a",) * count for count in (10, 2, 1, 10)])).to_json()
    assert list(values["captions_per_image"].items()) == [("1", 1), ("2", 1), ("10", 2)]


def test_broken_items_are_named_and_not_counted_as_images(make_folder: Callable[..., Path]) -> None:
    folder = make_folder(5, 2)
    (folder / "001.jpg").write_bytes(b"no picture")
    (folder / "003.txt").write_bytes(b"\xff")
    found = inspect_source(open_source(f"folder:{folder}"))
    assert (found.num_items, found.num_images, found.num_captions) == (5, 3, 6)
    assert [Path(message.split(": ")[0]).name for message in found.broken] == ["001.jpg", "003.txt"]
    assert found.to_json()["num_broken"] == 2


def test_a_source_of_broken_items_only_has_no_sizes(make_folder: Callable[..., Path]) -> None:
    folder = make_folder(2)
    for picture in folder.glob("*.jpg"):
        picture.write_bytes(b"")
    values = inspect_source(open_source(f"folder:{folder}")).to_json()
    assert (values["num_images"], values["num_broken"]) == (0, 2)
    assert values["width"] == values["height"] == values["words_per_caption"] == {}


def test_only_the_first_20_broken_items_are_listed_and_all_are_counted() -> None:
    values = inspect_source(Held([("a",)] * 30, [b"no picture"] * 30)).to_json()
    assert values["num_broken"] == 30
    assert [message.split(":")[0] for message in values["broken"]] == [f"item {number}" for number in range(20)]


def test_images_without_a_caption_are_named() -> None:
    found = inspect_source(Held([("a",), (), ("b",), ()]))
    assert found.without_caption == ["item 1", "item 3"]
    assert found.to_json()["num_without_caption"] == 2


# Repeated items


def test_equal_files_are_paired_with_the_first_of_them() -> None:
    pictures = [encode_picture(seed) for seed in (0, 1, 0, 2, 0, 1)]
    found = inspect_source(Held([("a",)] * 6, pictures))
    assert found.same_image == [("key-0", "key-2"), ("key-0", "key-4"), ("key-1", "key-5")]
    assert found.to_json()["num_same_images"] == 3


def test_an_image_encoded_anew_is_another_file() -> None:
    pictures = [flat_picture("red"), encode_picture(0, kind="PNG"), encode_picture(0, kind="JPEG")]
    assert inspect_source(Held([("a",)] * 3, pictures)).same_image == []


def test_a_caption_that_one_image_has_twice_is_not_counted() -> None:
    texts = [("a dog", "a dog", "A dog."), ("a cat", "two cats")]
    assert inspect_source(Held(texts)).num_repeated_captions == 0


def test_captions_that_two_images_share_are_repeated() -> None:
    texts = [("a dog", "a big dog"), ("A dog.",), ("a cat",)]
    assert inspect_source(Held(texts)).num_repeated_captions > 0


@pytest.mark.parametrize("texts", [[("a", "a"), ("A.",)], [("A.",), ("a", "a")]])
def test_every_caption_whose_text_another_image_has_is_counted(texts: list[tuple[str, ...]]) -> None:
    assert inspect_source(Held([*texts, ("b",)])).num_repeated_captions == 3


def test_progress_counts_every_item_the_broken_too() -> None:
    done: list[int] = []
    inspect_source(
        Held([("a",)] * 3, [encode_picture(0), b"", encode_picture(1)]),
        Told(lambda name, so_far, total, broken: done.append(so_far)),
    )
    assert done == [1, 2, 3]
