"""`pocketclip demo retrieval`: one page, scores on stdout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pocketclip.asked.bundle import PretrainedModel

Run = Callable[..., Any]


@pytest.fixture
def bundle(tiny_pretrained: PretrainedModel, tmp_path: Path) -> Path:
    return tiny_pretrained.save_pretrained(tmp_path / "run" / "bundle", card="# Tiny\n")


def test_a_page_and_a_line(pocketclip: Run, bundle: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = ("--sentence", "a red star", "--sentence", "two circles", "--seed", 3, "--out", page, "--json")
    ended = pocketclip("demo", "retrieval", bundle, "--data", "scenes:7,image_size=32", *words)
    assert ended.code == 0, ended.err
    (line,) = ended.out.splitlines()
    values = json.loads(line)
    assert (values["page"], values["draw_seed"], values["num_images"]) == (str(page), 3, 7)
    assert values["page_bytes"] == page.stat().st_size
    assert set(values["text_to_image_recall@1"]) == {"value", "low", "high"}
    text = page.read_text(encoding="utf-8")
    assert "two circles" in text
    assert "drawn at random with seed 3" in text


def test_a_wrong_place_costs_no_work_and_no_page(pocketclip: Run, tmp_path: Path) -> None:
    (tmp_path / "no").touch()
    ended = pocketclip("demo", "retrieval", "nowhere", "--data", "scenes", "--out", tmp_path / "no" / "a.html")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "Cannot write" in ended.err
    assert "a.html" in ended.err
    ended = pocketclip("demo", "retrieval", tmp_path / "nowhere", "--data", "scenes:3", "--out", tmp_path / "a.html")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert not (tmp_path / "a.html").exists()


def test_too_many_broken_pictures_leave_the_old_page(
    pocketclip: Run, bundle: Path, make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder, page = make_folder(5), tmp_path / "page.html"
    (folder / "003.jpg").write_bytes(b"junk")
    page.write_text("old")
    command = ("demo", "retrieval", bundle, "--data", folder, "--out", page)
    ended = pocketclip(*command, "--max-broken-share", "0")
    assert ended.code == 1
    assert "--max-broken-share" in ended.err
    assert page.read_text() == "old"
    assert pocketclip(*command).code == 0
    assert "1 broken items left out" in page.read_text(encoding="utf-8")
