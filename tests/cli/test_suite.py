"""`pocketclip evaluate --suite`."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import encode_picture
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.cli.progress import Reporter

Run = Callable[..., Any]
SUITE = """
title: mine
average: the mean
sets:
  - {name: pets, title: My pets, folders: pets, task: zero_shot, score: top1_accuracy}
  - {name: cars, folders: cars, task: zero_shot, settings: {protocol: cars}, score: top1_accuracy}
"""


@pytest.fixture
def asked(tiny_pretrained: PretrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A model and a suite of which one set is there."""
    for number in range(4):
        path = tmp_path / "sets" / "pets" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_picture(number, (40, 30), kind="PNG"))
    (tmp_path / "mine.yaml").write_text(SUITE)
    tiny_pretrained.save_pretrained(tmp_path / "bundle", card="")
    monkeypatch.chdir(tmp_path)
    return "evaluate", "bundle", "--suite", "mine.yaml", "--root", "sets"


def test_a_line_a_set_and_one_with_the_means(asked: tuple[str, ...], pocketclip: Run) -> None:
    ended = pocketclip(*asked)
    assert ended.code == 0, ended.err
    first, last = map(json.loads, ended.out.splitlines())
    assert (first["task"], first["num_images"], last["kind"]) == ("zero_shot", 4, "suite")
    assert last["means"]["the mean"] == {"value": last["scores"]["pets"], "num_sets": 1, "of": 2}
    assert last["missing"] == {"cars": "no folder cars"}
    assert not Path("records").exists()


def test_a_table_of_all_sets(asked: tuple[str, ...], pocketclip: Run) -> None:
    ended = pocketclip(*asked, "--format", "table", "--out", "kept")
    assert ended.code == 0, ended.err
    lines = [line.split() for line in ended.out.splitlines()]
    assert ["My", "pets", "top1_accuracy", "4"] in [line[:4] for line in lines]
    assert "mine: bundle on 1 of 2 sets" in ended.out
    assert "over 1 of 2 sets" in ended.out
    assert "cars: no folder cars" in ended.out
    assert Path("kept/records/pets.json").is_file()
    again = pocketclip(*asked, "--out", "kept")
    assert "1 of 1 sets: pets:" in again.err
    assert "as kept" in again.err


def test_ctrl_c_says_that_the_same_command_goes_on(
    asked: tuple[str, ...], pocketclip: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Reporter.work

    def pressed(self: Reporter, *told: Any) -> None:
        real(self, *told)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Reporter, "work", pressed)
    kept, unkept = pocketclip(*asked, "--out", "kept"), pocketclip(*asked)
    assert "What is finished is kept; the same command goes on from there." in kept.err
    assert "Nothing was written." in unkept.err
    monkeypatch.setattr(Reporter, "work", real)
    assert pocketclip(*asked, "--out", "kept").code == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--data", "scenes:9"), "--data: has no effect with --suite, which says what is measured, and on what."),
        (("--task", "retrieval"), "--task: has no effect with --suite"),
        (("--no-against-start",), "--no-against-start: has no effect with --suite"),
        (("--root", "nowhere"), "nowhere: no such folder; --root names the one that holds the data sets."),
        (("--suite", "datacmp"), "Unknown suite or file of one 'datacmp'. Did you mean 'datacomp'?"),
    ],
)
def test_what_does_not_fit_is_one_line(
    asked: tuple[str, ...], more: tuple[str, ...], message: str, pocketclip: Run
) -> None:
    ended = pocketclip(*asked, *more)
    assert ended.code == 1
    assert message in ended.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "evaluate: name what to measure on, with --data KIND:PLACE, or --suite NAME --root DIR."),
        (("--data", "scenes:9", "--root", "x"), "--root: has no effect without --suite."),
        (("--data", "scenes:9", "--out", "x"), "--out: has no effect without --suite."),
        (("--suite", "quick"), "--suite quick: also needs --root DIR, the folder that holds its data sets."),
    ],
)
def test_what_is_missing_is_named(words: tuple[str, ...], message: str, pocketclip: Run) -> None:
    ended = pocketclip("evaluate", "anything", *words)
    assert ended.code == 1
    assert message in ended.err
