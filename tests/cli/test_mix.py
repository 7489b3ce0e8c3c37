"""`pocketclip data mix` on the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def photos(make_folder: Callable[..., Path]) -> Path:
    return make_folder(6, 2)


def test_shards_and_counts(pocketclip: Run, photos: Path, tmp_path: Path) -> None:
    (photos / "005.jpg").write_bytes((photos / "000.jpg").read_bytes())
    ended = pocketclip("data", "mix", photos, "scenes:8,image_size=48@0.5", "--out", tmp_path / "out", "--json")
    assert ended.code == 0, ended.err
    values = json.loads(ended.out)
    first, second = values["sources"]
    assert (first["num_images"], first["num_duplicates"], second["num_taken"]) == (5, 1, 4)
    assert f"webdataset:{tmp_path / 'out'}/data-000000.tar" in ended.err
    assert "--without" in ended.err  # nobody named a test split
    found = json.loads(pocketclip("data", "inspect", f"webdataset:{tmp_path / 'out'}/data-000000.tar", "--json").out)
    assert found["num_images"] == values["num_images"]


def test_dry_run_writes_nothing_and_says_how_to(pocketclip: Run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = pocketclip("data", "mix", photos, "--without", "scenes:3", "--out", out, "--dry-run")
    assert "6 images with 12 captions would be written" in ended.err
    assert not list(out.glob("*.tar"))
    assert pocketclip("data", "mix", photos, "--without", "scenes:3", "--out", out, "--resume").code == 0
    assert len(list(out.glob("*.tar"))) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["fodler:x"], "Error: SOURCE: Unknown kind of source 'fodler'. Did you mean 'folder'?"),
        (["scenes:4@0"], "Error: scenes:4@0: the weight behind @ is the share of the source to take"),
        (["scenes:4@-2"], "(got -2)"),
        (["scenes:4", "--max-distance", "40"], "max_distance: Input should be less than or equal to 16 (got 40)"),
        (["scenes:4", "--min-caption-words", "99"], "nothing is left to write (taken: 4"),
        (["scenes:4", "--without", "scenes:4"], "held out: 4"),
        (["scenes:4", "--min-caption-words", "9", "--max-caption-words", "8"], "min_words 9 is above max_words 8"),
    ],
)
def test_bad_input_is_one_line(pocketclip: Run, tmp_path: Path, arguments: list[str], reason: str) -> None:
    ended = pocketclip("data", "mix", *arguments, "--out", tmp_path / "out")
    assert ended.code == 1
    assert ended.out == ""
    assert reason in ended.err
    assert sum("Error" in line for line in ended.err.splitlines()) == 1
    assert "Traceback" not in ended.err


def test_broken_pictures_of_one_source_stop_the_mix(pocketclip: Run, photos: Path, tmp_path: Path) -> None:
    for number in range(4):
        (photos / f"{number:03d}.jpg").write_bytes(b"no picture")
    command = ("data", "mix", "scenes:500,image_size=32", photos, "--out", tmp_path / "out")
    ended = pocketclip(*command)
    assert ended.code == 1
    assert "4 of 6 items are broken" in ended.err
    assert "--max-broken-share=SHARE. " in ended.err
    ended = pocketclip(*command, "--max-broken-share=0.7")
    assert ended.code == 0
    assert "002.jpg" in ended.err


def test_a_file_in_place_of_the_folder_is_named(pocketclip: Run, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    ended = pocketclip("data", "mix", "scenes:4", "--out", tmp_path / "out")
    assert ended.code == 1
    assert f"Cannot write {tmp_path / 'out'}" in ended.err
