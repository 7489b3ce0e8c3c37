"""The sheet of examples: every picture in its place, with its name and caption in any script."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageDraw, features

from held import Held, flat_picture
from pocketclip.curate import fonts as fonts_module
from pocketclip.curate.fonts import Fonts, letters
from pocketclip.curate.sheet import contact_sheet, cut_to_fit, wrap
from pocketclip.data import open_source


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
    pictures = [flat_picture("red"), flat_picture("blue")]
    for seed in range(4):
        below_blue = []
        for caption in ("x" * 100, "x"):
            sheet = contact_sheet(Held([(caption,), ()], pictures), columns=2, rows=1, side=60, seed=seed)
            column = cells(sheet, 2, 1, 60).index((0, 0, 255))
            below_blue.append(np.asarray(sheet)[68:, 8 + 68 * column : 68 + 68 * column])
        assert (below_blue[0] == below_blue[1]).all()


@pytest.mark.parametrize("size", [(400, 20), (20, 400), (5, 5)])
def test_pictures_of_any_shape_fit_their_place(size: tuple[int, int]) -> None:
    sheet = contact_sheet(Held([()], [flat_picture("red", size)]), columns=1, rows=1, side=60)
    red = (np.asarray(sheet) == (255, 0, 0)).all(axis=2)
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    assert 8 <= rows.min() <= rows.max() < 68
    assert 8 <= columns.min() <= columns.max() < 68
    assert (len(rows) / len(columns)) == pytest.approx(size[1] / size[0], rel=0.1)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 11, 24, 60])
def test_a_sheet_uses_its_paper(count: int) -> None:
    sheet = np.asarray(contact_sheet(Held([("a dog",)] * count, [flat_picture("red", (60, 40))] * count)))
    red = (sheet == (255, 0, 0)).all(axis=2)
    assert red.mean() > 0.4, "at least so much of a sheet is pictures"
    assert sheet.shape[1] <= 1016
    places = np.flatnonzero(np.diff(red.any(axis=0).astype(int)) == 1)
    assert len(places) <= min(count, 6)


def test_the_files_name_stands_below_its_picture_and_long_ones_lose_their_middle() -> None:
    fonts = Fonts(11)
    cut = cut_to_fit("a_very_long_name_of_a_file_that_has_no_room_0001.jpg", fonts, 100)
    assert cut.startswith("a_ve")
    assert "…" in cut
    assert cut.endswith("01.jpg")
    assert fonts.width(cut) <= 100
    assert cut_to_fit("dog.jpg", fonts, 100) == "dog.jpg"


def test_a_caption_that_goes_on_says_so() -> None:
    fonts = Fonts(11)
    assert wrap("a dog", fonts, 100, 2) == ["a dog"]
    lines = wrap("a dog that runs " * 20, fonts, 100, 2)
    assert len(lines) == 2
    assert lines[1].endswith("…")
    assert all(fonts.width(line) <= 100 for line in lines)


# Scripts


def ink(text: str, fonts: Fonts) -> bytes:
    """What is drawn of a text."""
    picture = Image.new("RGB", (200, 24), "white")
    fonts.draw(ImageDraw.Draw(picture), 4, 16, text, room=190, fill="black")
    return picture.tobytes()


@pytest.mark.parametrize("text", ["собака", "σκύλος", "Một con chó", "كلب بني", "כלב חום", "½ € → ≈", "cafe\u0301"])
def test_scripts_that_a_font_has_are_drawn_as_they_are(text: str) -> None:
    pytest.importorskip("matplotlib", reason="brings DejaVu, which has them")
    fonts = Fonts(11)
    assert fonts.drawable(text) == text
    assert fonts.missing == {}
    drawn = [ink(letter, fonts) for letter in dict.fromkeys(letters(text.replace(" ", "")))]
    assert len(set(drawn)) == len(drawn), "no two letters look alike, as boxes do"


@pytest.fixture
def few_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with no font but Pillow's own."""
    monkeypatch.setattr(fonts_module, "font_files", lambda: iter([Path("no such font.ttf")]))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a dog", "a dog"),
        ("二匹の犬", "[cjk hiragana]"),
        ("갈색 개가 잔디", "[hangul]"),
        ("น้ำ", "[thai]"),
        ("dog 狗 runs", "dog [cjk] runs"),
        ("狗.jpg", "[cjk].jpg"),
        ("a 🐻", "a [bear]"),
    ],
)
def test_letters_that_no_font_has_are_named_and_never_boxes(few_fonts: None, text: str, shown: str) -> None:
    fonts = Fonts(11)
    assert fonts.drawable(text) == shown
    assert bool(fonts.missing) == (text != shown)
    assert fonts.width(shown) > 0


@pytest.mark.skipif(not features.check("raqm"), reason="this Pillow neither joins nor orders letters")
def test_a_script_from_the_right_stands_at_the_right() -> None:
    pytest.importorskip("matplotlib", reason="brings DejaVu, which has it")

    def columns(text: str) -> Any:
        picture = Image.frombytes("RGB", (200, 24), ink(text, Fonts(11)))
        return np.flatnonzero((np.asarray(picture) < 128).any(axis=(0, 2)))

    assert columns("dog").max() < 100
    assert columns("כלב").min() > 100
