"""Whatever holds a picture or a sentence, and what a caller is told where it holds none."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import encode_picture
from pocketclip.errors import UserError
from pocketclip.inputs import is_picture, is_text, items_of, read_image, read_text

DATA = encode_picture(3)
PIXELS = np.asarray(Image.open(io.BytesIO(DATA)).convert("RGB"))
FORMS: dict[str, Callable[[Path], Any]] = {
    "text": str,
    "path": lambda path: path,
    "home": lambda path: f"~/{path.name}",
    "bytes": lambda path: DATA,
    "bytearray": lambda path: bytearray(DATA),
    "memoryview": lambda path: memoryview(DATA),
    "buffer": lambda path: io.BytesIO(DATA),
    "opened": lambda path: path.open("rb"),
    "pillow": Image.open,
    "with alpha": lambda path: Image.open(path).convert("RGBA"),
    "array": lambda path: PIXELS,
    "array with alpha": lambda path: np.asarray(Image.open(path).convert("RGBA")),
    "floats": lambda path: PIXELS / 255,
    "half floats": lambda path: (PIXELS / 255).astype(np.float16),
    "not contiguous": lambda path: np.asfortranarray(PIXELS),
    "an array of one name": lambda path: np.array(str(path)),
}


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dog.jpg").write_bytes(DATA)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "dog.jpg"


def pictures(given: Any) -> list[Any]:
    return [np.asarray(read_image(item, place)) for place, item in items_of(given, "images")]


@pytest.mark.parametrize("form", FORMS)
def test_one_picture_in_any_form_is_the_same_pixels(photo: Path, form: str) -> None:
    (one,) = pictures(FORMS[form](photo))
    assert np.array_equal(one, PIXELS)


def test_a_file_that_was_read_already_is_read_from_its_start(photo: Path) -> None:
    buffer = io.BytesIO()
    Image.open(photo).save(buffer, "PNG")  # stands at its end
    assert np.array_equal(pictures([buffer, buffer])[1], PIXELS)


def several(photo: Path) -> Iterator[Path]:
    yield from (photo, photo)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: [path, str(path)],
        lambda path: (path, DATA),
        several,
        lambda path: (item for item in (path, PIXELS)),
        lambda path: path.parent.glob("do*.jpg"),
        lambda path: np.array([str(path), str(path)]),
        lambda path: np.array([path, DATA], dtype=object),
        lambda path: np.stack([PIXELS, PIXELS]),
        lambda path: np.stack([PIXELS, PIXELS]) / 255,
        lambda path: {"a": path}.values(),
        lambda path: [],
        lambda path: np.zeros((0, 4, 4, 3), np.uint8),
    ],
)
def test_several_come_in_any_order_of_things(photo: Path, make: Callable[[Path], Any]) -> None:
    assert all(np.array_equal(one, PIXELS) for one in pictures(make(photo)))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
def test_grey_pixels_are_a_picture(shape: tuple[int, ...]) -> None:
    grey = np.arange(35, dtype=np.uint8).reshape(shape)
    (one,) = pictures(grey)
    assert np.array_equal(one, np.repeat(grey.reshape(5, 7, 1), 3, axis=2))


def test_tensors_are_taken_channels_first() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)
    for given in (tensor, tensor / 255, tensor[None], [tensor], (tensor / 255).requires_grad_()):
        (one,) = pictures(given)
        assert np.array_equal(one, PIXELS)
    (rough,) = pictures((tensor / 255).bfloat16())
    assert np.abs(rough.astype(int) - PIXELS).max() <= 1
    with pytest.raises(UserError, match=r"pixels should be \(3, height, width\): x.permute\(2, 0, 1\)"):
        pictures(tensor.permute(1, 2, 0))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "images: is None; give a path"),
        ([DATA, None], r"images\[1\]: is None"),
        ([DATA, 3], r"images\[1\]: is 3"),
        ([["dog.jpg"]], r"images\[0\]: is of type list"),
        ({"a": DATA}, "images: a dict has no order"),
        ({"dog.jpg"}, "images: a set has no order"),
        ("https://example.org/dog.jpg", r"nothing is fetched.*urlopen\(address\)\.read"),
        (Path("https://example.org/dog.jpg"), "nothing is fetched"),
        ("s3://bucket/dog.jpg", "nothing is fetched"),
        ("data:image/png;base64,AAAA", "b64decode"),
        ("dgo.jpg", r"No such file or directory\)\. Did you mean 'dog\.jpg'\?"),
        ("two dogs in the snow", "A sentence goes to encode_text"),
        (".", r"it is a folder; give its files, such as sorted\(Path\('\.'\)\.glob"),
        ("a\0b", "null"),
        (b"", r"images \(picture in memory\): the file is empty"),
        ([DATA, b"junk"], r"images\[1\] \(picture in memory\): not a picture"),
        (io.StringIO("x"), "was opened as text"),
        (Image.new("RGB", (0, 0)), "without pixels"),
        (PIXELS.transpose(2, 0, 1), r"of shape \(3, 24, 32\).*: x\.transpose\(1, 2, 0\)"),
        (np.zeros((4, 4, 2), np.uint8), r"of shape \(4, 4, 2\); pixels should be \(height, width, 3\)\."),
        (np.zeros((0, 4, 3), np.uint8), "of shape"),
        ([np.zeros((1, 4, 4, 3), np.uint8)], r"images\[0\]: an array of shape \(1, 4, 4, 3\)"),
        (np.arange(3), r"images\[0\]"),
        (PIXELS.astype(int), r"pixels of int64; give uint8 from 0 to 255: x\.astype\('uint8'\)"),
        (PIXELS.astype(np.uint16) * 257, r"pixels of uint16; give uint8 from 0 to 255\."),
        (PIXELS > 3, r"x\.astype\('uint8'\) \* 255"),
        (PIXELS.astype(float), "floats from 0 to 255; pixels are uint8, or floats from 0 to 1"),
        (PIXELS / 127.5 - 1, "normalised already"),
        (np.full((4, 4, 3), np.nan), "floats from nan"),
    ],
)
def test_what_is_no_picture_is_named_with_the_cure(photo: Path, given: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        pictures(given)


def test_a_closed_file_is_named(photo: Path) -> None:
    with photo.open("rb") as file:
        pass
    with pytest.raises(UserError, match=r"images: cannot read the opened file .*open\(path, 'rb'\)"):
        pictures(file)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        (("a", "b"), ["a", "b"]),
        ((letter for letter in "ab"), ["a", "b"]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array(["a", "b"], object), ["a", "b"]),
        (np.array("a"), ["a"]),
        ([], []),
    ],
)
def test_sentences_in_any_form(given: Any, expected: list[str]) -> None:
    read = [read_text(item, place) for place, item in items_of(given, "texts", is_text)]
    assert read == expected
    assert all(type(text) is str for text in read)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (b"a", r"texts: is of type bytes.*x\.decode\(\)"),
        (["a", b"b"], r"texts\[1\]: is of type bytes"),
        (["a", None], r"texts\[1\]: is None"),
        (["a", float("nan")], r"texts\[1\]: is nan"),
        (3, "texts: is 3"),
        ([["a"]], r"texts\[0\]: is of type list"),
        ([Path("a.jpg")], r"texts\[0\]: is of type \w*Path.*encode_image"),
        ({"a"}, "no order"),
    ],
)
def test_what_is_no_sentence_is_named(given: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        [read_text(item, place) for place, item in items_of(given, "texts", is_text)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("two dogs in the snow", False),
        ("dog.jpg", True),
        ("My Dog.JPEG", True),
        ("IMG_1.HEIC", True),
        ("https://example.org/x", True),
        ("note: a dog", False),
        ("ratio 3:/4", False),
        ("e.g. a dog.", False),
        (Path("anything"), True),
        (DATA, True),
        (np.zeros(3), False),
    ],
)
def test_a_text_is_a_picture_where_it_ends_like_one(given: Any, expected: bool) -> None:
    assert is_picture(given) is expected
