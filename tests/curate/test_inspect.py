import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from conftest import Told, encode_picture
from pocketclip.curate.inspect import contact_sheet, inspect_source
from pocketclip.data import open_source
from pocketclip.data.source import Sample, Source


@dataclass
class Held(Source):
    """Samples in memory, one a row of captions; pictures differ unless `pictures` says otherwise."""

    texts: Sequence[tuple[str, ...]]
    pictures: Sequence[bytes] = ()
    labels: dict[int, int] = field(default_factory=dict)
    name: str = "held"

    def __len__(self) -> int:
        return len(self.texts)

    def sample(self, index: int) -> Sample:
        picture = self.pictures[index] if self.pictures else encode_picture(index)
        return Sample(f"key-{index}", picture, self.texts[index], f"item {index}", self.labels.get(index))

    def captions(self, index: int) -> tuple[str, ...]:
        return self.texts[index]

    def place(self, index: int) -> str:
        return f"item {index}"

    def stamp(self) -> object:
        return "held"


def flat_picture(colour: str, size: tuple[int, int] = (40, 40)) -> bytes:
    output = io.BytesIO()
    Image.new("RGB", size, colour).save(output, "PNG")
    return output.getvalue()


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


# The contact sheet


def cells(sheet: Image.Image, columns: int, rows: int, side: int) -> list[tuple[int, ...]]:
    """The colour in the middle of each place for a picture."""
    pixels = np.asarray(sheet)
    return [
        tuple(pixels[8 + row * (side + 52) + side // 2, 8 + column * (side + 8) + side // 2].tolist())
        for row in range(rows)
        for column in range(columns)
    ]


def test_a_sheet_shows_each_picture_once() -> None:
    colours = ["red", "green", "blue", "black", "yellow", "orange"]
    source = Held([("a",)] * 6, [flat_picture(colour) for colour in colours])
    sheet = contact_sheet(source, columns=3, rows=2, side=40)
    assert sheet.size == (3 * 48 + 8, 2 * 92 + 8)
    assert sorted(cells(sheet, 3, 2, 40)) == sorted(ImageColor.getrgb(colour) for colour in colours)


def test_a_sheet_with_room_left_stays_white_there() -> None:
    sheet = contact_sheet(Held([("a",)] * 2, [flat_picture("red")] * 2), columns=2, rows=2, side=40)
    assert cells(sheet, 2, 2, 40) == [(255, 0, 0), (255, 0, 0), (255, 255, 255), (255, 255, 255)]


def test_broken_pictures_leave_no_gap_in_a_sheet() -> None:
    pictures = [b"no picture", flat_picture("red"), b"", flat_picture("red"), flat_picture("red")]
    sheet = contact_sheet(Held([("a",)] * 5, pictures), columns=3, rows=1, side=40)
    assert cells(sheet, 3, 1, 40) == [(255, 0, 0)] * 3


def test_a_sheet_draws_other_pictures_for_another_seed_and_the_same_for_the_same() -> None:
    source = open_source("scenes:50")
    first, again, other = (contact_sheet(source, columns=2, rows=2, side=32, seed=seed) for seed in (0, 0, 1))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_the_caption_stands_below_its_picture() -> None:
    def text_part(captions: tuple[str, ...]) -> bytes:
        sheet = contact_sheet(Held([captions], [flat_picture("red")]), columns=1, rows=1, side=100)
        above = sheet.crop((0, 0, 116, 108))
        assert above.tobytes() == blank.crop((0, 0, 116, 108)).tobytes()
        return sheet.crop((0, 108, 116, 160)).tobytes()

    blank = contact_sheet(Held([()], [flat_picture("red")]), columns=1, rows=1, side=100)
    assert text_part(("a dog",)) != blank.crop((0, 108, 116, 160)).tobytes()
    assert text_part(("a dog",)) != text_part(("a cat",))
    assert text_part(("a dog", "a cat")) == text_part(("a dog",))


def test_an_image_without_a_caption_shows_its_class() -> None:
    def sheet(label: dict[int, int]) -> bytes:
        return contact_sheet(Held([()], [flat_picture("red")], label), columns=1, rows=1).tobytes()

    assert len({sheet({}), sheet({0: 0}), sheet({0: 8})}) == 3


@pytest.mark.parametrize("caption", ["word " * 10_000, "x" * 500, "ein Bär 🐻 狗", "a\u202eb"])
def test_long_and_foreign_captions_stay_in_their_own_row(caption: str) -> None:
    sheet = contact_sheet(Held([(caption,)] * 2, [flat_picture("white")] * 2), columns=1, rows=2, side=60)
    pixels = np.asarray(sheet)
    assert (pixels[68 + 44 : 68 + 44 + 8] == 255).all()


def test_a_caption_without_blanks_stays_below_its_own_picture() -> None:
    source = Held([("x" * 100,), ()], [flat_picture("red"), flat_picture("blue")])
    for seed in range(4):
        sheet = contact_sheet(source, columns=2, rows=1, side=60, seed=seed)
        column = cells(sheet, 2, 1, 60).index((0, 0, 255))
        below_blue = np.asarray(sheet)[68:, 8 + 68 * column : 68 + 68 * column]
        assert (below_blue == 255).all()


@pytest.mark.parametrize("size", [(400, 20), (20, 400), (5, 5)])
def test_pictures_of_any_shape_fit_their_place(size: tuple[int, int]) -> None:
    sheet = contact_sheet(Held([()], [flat_picture("red", size)]), columns=1, rows=1, side=60)
    red = (np.asarray(sheet) == (255, 0, 0)).all(axis=2)
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    assert 8 <= rows.min() <= rows.max() < 68
    assert 8 <= columns.min() <= columns.max() < 68
    assert (len(rows) / len(columns)) == pytest.approx(size[1] / size[0], rel=0.1)
