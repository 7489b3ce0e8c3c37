"""`data inspect`: what it lists, on a terminal and in a pipe."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import encode_picture
from pocketclip.data.left_out import LeftOut

Run = Callable[..., Any]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables instead of JSON, as on a terminal."""
    monkeypatch.setattr("pocketclip.cli.inspect.wants_json", lambda asked: asked)


@pytest.fixture
def photos(make_folder: Callable[..., Path]) -> Path:
    """Thirty pictures: twelve are broken, eleven have no caption."""
    folder = make_folder(30)
    for number in range(12):
        (folder / f"{number:03d}.jpg").write_bytes(b"")
    for number in range(12, 23):
        (folder / f"{number:03d}.txt").unlink()
    return folder


def test_broken_lists_all_that_training_leaves_out(pocketclip: Run, photos: Path) -> None:
    lines = pocketclip("data", "inspect", photos, "--broken").out.splitlines()
    assert len(lines) == 23
    assert lines[0] == f"{photos / '000.jpg'}: the file is empty (0 bytes)."
    assert lines[-1] == f"{photos / '022.jpg'}: has no caption."


def test_uncaptioned_lists_the_files_alone(pocketclip: Run, photos: Path) -> None:
    lines = pocketclip("data", "inspect", photos, "--uncaptioned").out.splitlines()
    assert lines == [str(photos / f"{number:03d}.jpg") for number in range(12, 23)]


def test_converted_data_have_the_same_content(
    pocketclip: Run, make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_folder(3)
    assert pocketclip("data", "convert", folder, "--out", tmp_path / "out").code == 0
    places = (folder, f"webdataset:{tmp_path / 'out'}/data-000000.tar")
    first, second = (json.loads(pocketclip("data", "inspect", place, "--json").out)["content"] for place in places)
    assert first == second
    (folder / "001.txt").write_text("another caption")
    assert json.loads(pocketclip("data", "inspect", folder, "--json").out)["content"] != first


def test_both_lists_as_json_lines(pocketclip: Run, photos: Path) -> None:
    lines = pocketclip("data", "inspect", photos, "--broken", "--uncaptioned", "--json").out.splitlines()
    values = [json.loads(line) for line in lines]
    assert [list(value) for value in values] == [["broken"]] * 23 + [["without_caption"]] * 11


def test_pictures_of_classes_are_not_broken_without_captions(pocketclip: Run, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(encode_picture(len(name)))
    assert pocketclip("data", "inspect", f"folder:{tmp_path},classes=folders", "--broken").out == ""


def test_the_first_are_shown_with_how_to_list_all(pocketclip: Run, photos: Path, terminal: None) -> None:
    ended = pocketclip("data", "inspect", photos)
    assert ended.out.count("\nbroken: ") == 11
    assert "broken: 2 more; --broken lists all\n" in ended.out
    assert "without caption: 1 more; --uncaptioned lists all\n" in ended.out
    assert f"without caption: {photos / '012.jpg'}\n" in ended.out


def test_what_was_passed_over_is_told(
    pocketclip: Run, photos: Path, terminal: None, leave_out: Callable[[LeftOut], None]
) -> None:
    left = LeftOut("[b].heic files passed over", 20, ("a.heic",), "install the extra 'heic'")
    leave_out(left)
    wanted = "20 [b].heic files passed over: install the extra 'heic' (a.heic, ...)"
    assert f"left out: {wanted}\n" in pocketclip("data", "inspect", photos).out
    (found,) = json.loads(pocketclip("data", "inspect", photos, "--json").out)["left_out"]
    assert found == {"what": left.what, "count": 20, "names": ["a.heic"], "cure": left.cure}


@pytest.mark.parametrize(
    ("captions", "copies", "repeated", "highest"),
    [
        (["a", "b", "c", "d"], 0, 0, 1.0),
        (["a dog", "A dog.", "a cat", "a cat"], 0, 4, 0.5),
        (["a", "a", "a", "b"], 0, 3, 0.5),
        (["a", "a", "b", "c"], 1, 0, 1.0),  # two files of one picture: both are right
    ],
)
def test_the_highest_recall_that_repeated_captions_leave(
    pocketclip: Run, terminal: None, tmp_path: Path, captions: list[str], copies: int, repeated: int, highest: float
) -> None:
    for number, caption in enumerate(captions):
        (tmp_path / f"{number}.jpg").write_bytes(encode_picture(max(number, copies)))
        (tmp_path / f"{number}.txt").write_text(caption)
    values = json.loads(pocketclip("data", "inspect", tmp_path, "--json").out)
    assert values["num_repeated_captions"] == repeated
    assert values["highest_text_to_image_recall@1"] == highest
    assert (values["num_distinct_images"], values["num_same_images"]) == (4 - copies, copies)
    told = f"R@1 text to image is at most {highest:.1%}." in pocketclip("data", "inspect", tmp_path).out
    assert told == (repeated > 0)


def test_people_are_counted_with_their_images(pocketclip: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ["image,caption,identity"]
    for number, (who, size) in enumerate([("a", (16, 32)), ("a", (16, 32)), ("b", (40, 20))]):
        (tmp_path / f"{number}.png").write_bytes(encode_picture(number, size))
        rows.append(f"{number}.png,text {number},{who}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    found = json.loads(pocketclip("data", "inspect", f"person_table:{tmp_path}/t.csv", "--json").out)
    assert found["num_identities"] == 2
    assert found["images_per_identity"] == {"min": 1, "median": 1.5, "max": 2}
    assert found["num_wider_than_high"] == 1
    monkeypatch.setattr("pocketclip.cli.inspect.wants_json", lambda asked: asked)
    table = pocketclip("data", "inspect", f"person_table:{tmp_path}/t.csv").out
    assert "images per identity" in table
    assert table.count("wider than high, and stay") == 1
    assert "identities" not in pocketclip("data", "inspect", f"csv:{tmp_path}/t.csv").out
