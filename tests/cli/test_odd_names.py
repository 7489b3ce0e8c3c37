"""Names and captions that look like markup, move a cursor or are not UTF-8: every command gets through with them."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import build_tiny_pretrained, encode_picture, tiny_recipe_settings
from pocketclip.cli.tables import print_table

Run = Callable[..., Any]
NAMES = {
    "markup": "[red]:smile:.jpg",
    "escape": "a\x1b[31mred\x07.jpg",
    "line end": "two\nlines.jpg",
    "latin": os.fsdecode(b"caf\xe9.jpg"),
    "separator": "a\u2028b\x85c.jpg",
    "long": f"{'x' * 250}.jpg",
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build_tiny_pretrained().save_pretrained(folder, card="x")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder named like markup with six pictures that can be read and one that cannot."""
    folder = tmp_path / "rich[" / "x] [bold]"
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES.values()):
        (folder / name).write_bytes(encode_picture(number))
        caption = f"[/y] [bold]{number}[/bold] :cat: \u2028 a\x0cb"
        (folder / name).with_suffix(".txt").write_text(caption)
    broken = folder / os.fsdecode(b"broken\xe9[z]\x1b[0m.jpg")
    broken.write_bytes(b"")
    broken.with_suffix(".txt").write_text("of a file without a byte")
    return folder


def table_paths(photos: Path) -> set[str]:
    return {str(photos / name) for name in NAMES.values()}


def test_inspect_on_a_terminal_and_as_json(pocketclip: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = json.loads(pocketclip("data", "inspect", photos).out)
    assert values["source"] == f"folder:{photos}"
    assert values["num_images"] == 6
    (message,) = values["broken"]
    assert os.fsdecode(b"broken\xe9[z]\x1b[0m.jpg") in message
    monkeypatch.setattr("pocketclip.cli.inspect.wants_json", lambda asked: asked)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich draws bars and colours, as on a terminal
    monkeypatch.setenv("COLUMNS", "300")
    shown = pocketclip("data", "inspect", photos)
    assert shown.code == 0
    assert "rich[/x] [bold]" in shown.out
    assert r"broken\udce9[z]\x1b[0m.jpg: the file is empty" in shown.out
    assert "\x1b[0m.jpg" not in shown.out


def test_embed_index_and_search_give_the_names_back(
    pocketclip: Run, photos: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = pocketclip("embed", photos, "--model", bundle, "--out", tmp_path / "embedded")
    assert ended.code == 0, ended.err
    assert r"left out: " in ended.err
    assert "\x1b" not in ended.err
    text = (tmp_path / "embedded" / "items.jsonl").read_bytes().decode()  # UTF-8
    assert {json.loads(line)["place"] for line in text.split("\n")[:-1]} == table_paths(photos)
    assert len(np.load(tmp_path / "embedded" / "images.npy")) == 6
    (broken,) = json.loads((tmp_path / "embedded" / "manifest.json").read_bytes().decode())["broken"]
    assert os.fsdecode(b"broken\xe9[z]\x1b[0m.jpg") in broken
    assert pocketclip("index", photos, "--model", bundle, "--out", tmp_path / "index").code == 0
    found = [json.loads(line) for line in pocketclip("search", "x", "--index", tmp_path / "index").out.split("\n")[:-1]]
    assert {hit["place"] for hit in found} == table_paths(photos)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "400")  # room for a path and its caption
    shown = pocketclip("search", "x", "--index", tmp_path / "index").out
    assert len(shown.splitlines()) == 6
    assert "/[red]:smile:.jpg  [/y] [bold]0[/bold] :cat:" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("cached", [True, False])
def test_train_on_it_and_report(
    pocketclip: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    settings = tiny_recipe_settings(**({"cache": {}} if cached else {}))
    settings["data"] = {"train": f"folder:{photos}", "val": f"folder:{photos}", "allow_overlap": True}
    recipe = tmp_path / "[bold] recipe.yaml"
    recipe.write_text(json.dumps(settings))
    ended = pocketclip("train", recipe, "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    assert "1 item was left out" in ended.err
    (message,) = json.loads((tmp_path / "run" / "records" / "run.json").read_text())["broken_items"]
    assert os.fsdecode(b"broken\xe9[z]\x1b[0m.jpg") in message
    assert "# [bold] recipe" in (tmp_path / "run" / "bundle" / "README.md").read_bytes().decode()
    page = Path(pocketclip("report", tmp_path / "run").out.strip()).read_bytes().decode()
    assert "<bold>" not in page


@pytest.mark.parametrize("command", ["convert", "filter", "mix"])
def test_shards_are_written_of_it(pocketclip: Run, photos: Path, tmp_path: Path, command: str) -> None:
    options = {"filter": ["--min-image-side", "2"], "mix": ["--min-caption-words", "1"]}.get(command, [])
    ended = pocketclip("data", command, f"folder:{photos}", "--out", tmp_path / "out", *options)
    assert ended.code == 0, ended.err
    assert "1 item was left out." in ended.err
    assert "\x1b" not in ended.err
    values = json.loads(pocketclip("data", "inspect", f"webdataset:{tmp_path}/out/data-000000.tar").out)
    assert values["num_images"] == 6


def test_bars_are_drawn_with_the_name_of_a_source(
    pocketclip: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "300")
    ended = pocketclip("data", "mix", f"folder:{photos}", "--out", tmp_path / "[/out]")
    assert ended.code == 0, ended.err
    assert "reading folder:" in ended.err
    assert "rich[/x] [bold]" in ended.err


@pytest.mark.parametrize("width", [20, 40, 200])
def test_a_narrow_terminal_loses_no_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_table("[/x] :cat: a\x1b[0m", ["", "[bold]"], [["a long name of a row [red]", "1,234,567,890,123,456"]])
    out = capsys.readouterr().out
    letters = "".join(out.split())
    assert "[/x]" in letters
    assert "\x1b" not in out
    assert all(sum(letter == digit for letter in letters) >= 1 for digit in "1234567890")


def test_an_error_does_not_pass_on_what_a_name_says_to_the_terminal(pocketclip: Run) -> None:
    ended = pocketclip("data", "inspect", "folder:/nowhere/\x1b[31m\udce9")
    assert ended.code == 1
    assert r"/nowhere/\x1b[31m\udce9" in ended.err
