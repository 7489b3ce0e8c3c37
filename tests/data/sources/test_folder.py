import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import encode_picture
from pocketclip.data import open_source
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.preprocess import decode_image


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """One picture without captions."""
    path = tmp_path / "dog.jpg"
    path.write_bytes(encode_picture())
    return path


def captions_beside(photo: Path) -> tuple[str, ...]:
    source = open_source(f"folder:{photo.parent}")
    assert source.captions(0) == source[0].captions
    return source[0].captions


def test_pictures_at_any_depth_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b.jpg", "a/z.PNG", "a/b/c.webp", "notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encode_picture())
    source = open_source(f"folder:{tmp_path}")
    assert [source[number].key for number in range(len(source))] == ["a_b_c", "a_z", "b"]


def test_pictures_that_differ_only_in_their_ending_have_keys_of_their_own(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a-2.jpg"):
        (tmp_path / name).write_bytes(encode_picture())
    source = open_source(f"folder:{tmp_path}")
    assert len({source[number].key for number in range(3)}) == 3


def test_a_text_beside_the_picture_holds_one_caption_a_line(photo: Path) -> None:
    photo.with_suffix(".txt").write_text("a dog\n\n  a  brown dog \n")
    assert captions_beside(photo) == ("a dog", "a brown dog")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"captions": ["a dog", " ", "a brown dog"]}, ("a dog", "a brown dog")),
        ({"caption": "a dog"}, ("a dog",)),
        ({"captions": []}, ()),
        ({"label": 3}, ()),
        ({"label": 3, "caption": "a dog"}, ("a dog",)),
        ({"captions": None}, ()),
    ],
)
def test_a_json_beside_the_picture_holds_captions(photo: Path, values: Any, expected: tuple[str, ...]) -> None:
    photo.with_suffix(".json").write_text(json.dumps(values))
    assert captions_beside(photo) == expected


def test_json_comes_before_text(photo: Path) -> None:
    photo.with_suffix(".txt").write_text("from text")
    photo.with_suffix(".json").write_text('{"caption": "from json"}')
    assert captions_beside(photo) == ("from json",)


def test_a_picture_without_a_sidecar_has_no_captions(photo: Path) -> None:
    assert captions_beside(photo) == ()


def test_a_name_with_dots_finds_its_own_sidecar(tmp_path: Path) -> None:
    (tmp_path / "v1.2.jpg").write_bytes(encode_picture())
    (tmp_path / "v1.2.txt").write_text("right")
    (tmp_path / "v1.txt").write_text("wrong")
    assert open_source(f"folder:{tmp_path}")[0].captions == ("right",)


@pytest.mark.parametrize(
    ("suffix", "content", "reason"),
    [
        (".txt", b"a d\xf6g", r"dog\.txt: line 1: not valid UTF-8"),
        (".json", b'{"captions": ["a d\xf6g"]}', r"dog\.json: line 1: not valid UTF-8"),
        (".json", b"{", r"dog\.json: Expecting"),
        (".json", b"[" * 100_000, r"dog\.json: maximum recursion"),
        (".json", b"[1]", r'dog\.json: should hold \{"captions"'),
        (".json", b'{"captions": [1]}', r"dog\.json: should hold"),
        (".json", b'{"text": "a dog"}', r"dog\.json: should hold"),
    ],
)
def test_an_unreadable_sidecar_breaks_its_item_and_is_named_once(
    photo: Path, suffix: str, content: bytes, reason: str
) -> None:
    photo.with_suffix(suffix).write_bytes(content)
    source = open_source(f"folder:{photo.parent}")
    for read in (source.__getitem__, source.captions):
        with pytest.raises(BrokenItemError, match=reason) as caught:
            read(0)
        assert str(caught.value).count("dog") == 1


@pytest.mark.parametrize("data", [b"", b"not a picture", encode_picture(0, (99, 99))[:500]])
def test_a_corrupt_picture_breaks_when_decoded_and_is_named(photo: Path, data: bytes) -> None:
    photo.write_bytes(data)
    sample = open_source(f"folder:{photo.parent}")[0]
    with pytest.raises(BrokenItemError) as caught:
        decode_image(sample.image, place=sample.place)
    assert str(caught.value).startswith(f"{photo}: ")


def test_a_picture_deleted_after_opening_breaks_its_item_only(make_folder: Callable[..., Path]) -> None:
    folder = make_folder(3)
    source = open_source(f"folder:{folder}")
    (folder / "001.jpg").unlink()
    with pytest.raises(BrokenItemError, match="No such file"):
        source[1]
    assert source[2].key == "002"


def test_the_fingerprint_holds_while_nothing_changes(make_folder: Callable[..., Path]) -> None:
    folder = make_folder(3)
    before = open_source(f"folder:{folder}").fingerprint()
    (folder / "notes.md").write_text("not data")
    assert open_source(f"folder:{folder}").fingerprint() == before


@pytest.mark.parametrize("change", ["new", "deleted", "renamed", "picture", "caption", "new caption"])
def test_the_fingerprint_follows_every_change(make_folder: Callable[..., Path], change: str) -> None:
    folder = make_folder(3)
    before = open_source(f"folder:{folder}").fingerprint()
    if change == "new":
        (folder / "9.jpg").write_bytes(encode_picture(9))
    elif change == "deleted":
        (folder / "002.jpg").unlink()
    elif change == "renamed":
        (folder / "002.jpg").rename(folder / "x.jpg")
    elif change == "picture":
        os.utime(folder / "002.jpg", ns=(1, 1))
    elif change == "caption":
        (folder / "002.txt").write_text("something else")
    else:
        (folder / "002.json").write_text('{"caption": "something else"}')
    assert open_source(f"folder:{folder}").fingerprint() != before


def test_a_folder_without_pictures_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(UserError, match=r"no pictures here \(looked for .*\.jpg") as caught:
        open_source(f"folder:{tmp_path}")
    assert str(tmp_path) in str(caught.value)


def test_a_file_is_not_a_folder(photo: Path) -> None:
    with pytest.raises(UserError, match=r"dog\.jpg: not a folder"):
        open_source(f"folder:{photo}")
