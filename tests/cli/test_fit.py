"""`pocketclip fit`: from a folder of pictures to a bundle; on a machine that the tests make up, but for one."""

import importlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import tiny_recipe_settings
from pocketclip.bundle import find_bundle
from pocketclip.cli.progress import Reporter
from pocketclip.data import Source
from pocketclip.files import alone_in
from pocketclip.recipe import Recipe, dump_recipe, load_recipe
from pocketclip.study.fit import carry
from pocketclip.study.fit import look as look_module
from pocketclip.study.fit.look import Speeds

Run = Callable[..., Any]
MakeFolder = Callable[..., Path]
IDLE = Speeds(opening=0.0005, decoding=0.001, work=6e-4, caption=0.0008, tuning=0.018)


@pytest.fixture(autouse=True)
def started_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with the process, which runs all tests."""
    monkeypatch.setattr(importlib.import_module("pocketclip.cli.fit"), "STARTED", time.perf_counter())


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of known speed, and a tiny recipe in the place of what is chosen."""

    def speeds(self: object, source: Source, *, with_tuning: bool) -> Speeds:
        return IDLE

    def tiny(plan: object, source: str, **settings: Any) -> Recipe:
        values = tiny_recipe_settings(num_steps=6, checkpoint_every=1)
        return Recipe.parse(values | {"data": {"train": source, "hold_out": 0.25}}, place="tiny")

    monkeypatch.setattr(look_module.Machine, "speeds", speeds)
    monkeypatch.setattr(carry, "recipe_of", tiny)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "20"], "--budget 20: of which unit? Write it behind the number, such as 20min"),
        (["--budget", "0min"], "--budget 0min: should be above 0"),
        (["--budget=-5min"], "--budget -5min: should be above 0"),
        (["--budget", "soon"], "--budget soon: should be an amount such as 20min"),
        (["--budget", "5min", "--size", "25"], "--size 25: of which unit"),
        (["--budget", "5min", "--latency", "10px"], "--latency 10px: unknown unit 'px'"),
        (["--budget", "5min", "--memory", "0GB"], "--memory 0GB: should be above 0"),
    ],
)
def test_amounts_that_are_none(pocketclip: Run, words: list[str], said: str) -> None:
    ended = pocketclip("fit", "folder:nowhere", *words)
    assert ended.code == 1
    assert ended.err.startswith(f"Error: {said}")


def test_without_a_budget_it_is_asked_for(pocketclip: Run) -> None:
    ended = pocketclip("fit", "folder:photos")
    assert ended.code == 2
    assert "--budget" in ended.err


def test_sources_that_nothing_can_be_learned_from(pocketclip: Run, make_folder: MakeFolder, tmp_path: Path) -> None:
    photos = make_folder(10)
    for text in photos.glob("*.txt"):
        text.unlink()
    for source, said in {
        f"folder:{photos}": "a caption",
        f"folder:{tmp_path}/phots": "Did you mean",
        f"folder:{make_folder(7, name='seven')}": "Bring at least 8",
        "scene_pairs:16": "examples have two",
    }.items():
        ended = pocketclip("fit", source, "--budget", "2min", "--out", tmp_path / "out")
        assert ended.code == 1, source
        assert said in ended.err.splitlines()[-1]
        assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("made_up")
def test_a_dry_run_says_three_lines_and_writes_nothing(
    pocketclip: Run, make_folder: MakeFolder, tmp_path: Path
) -> None:
    words = ["fit", f"folder:{make_folder(40)}", "--budget", "2min", "--out", tmp_path / "out", "--dry-run"]
    ended = pocketclip(*words, "--format", "table")
    assert ended.code == 0, ended.err
    assert [line.split(":")[0] for line in ended.out.splitlines()] == ["Here", "Choice", "Takes"]
    assert "40 pictures with 2.0 captions each" in ended.out
    told = json.loads(pocketclip(*words, "--json").out)
    assert told["request"]["limits"]["budget_seconds"] == 120
    assert len(told["lines"]) == 3
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "1s"], "too short for anything here"),
        pytest.param(
            ["--budget", "2min", "--size", "1kB"], "no tower keeps that here; the nearest", marks=pytest.mark.slow
        ),
        (["--budget", "2min", "--memory", "1MB"], "no tower keeps that here; the nearest"),
        pytest.param(
            ["--budget", "2min", "--latency", "1us"], "no tower keeps that here; the nearest", marks=pytest.mark.slow
        ),
    ],
)
@pytest.mark.usefixtures("made_up")
def test_what_cannot_be_had_is_refused_with_the_nearest(
    pocketclip: Run, make_folder: MakeFolder, tmp_path: Path, words: list[str], said: str
) -> None:
    ended = pocketclip("fit", f"folder:{make_folder(40)}", *words, "--out", tmp_path / "out")
    assert ended.code == 1
    assert said in ended.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("made_up")
def test_the_same_words_go_on_and_others_are_refused(
    pocketclip: Run, make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, photos = tmp_path / "out", f"folder:{make_folder(24)}"
    words = ["fit", photos, "--budget", "2min", "--size", "200MB", "--out", out]
    real = Reporter.step

    def stopping(self: Reporter, name: str, done: int, *told: Any) -> None:
        real(self, name, done, *told)
        if done == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Reporter, "step", stopping)
    ended = pocketclip(*words)
    assert ended.code == 130
    assert ended.err.splitlines()[-1].endswith("Nothing is lost; go on with the same command.")
    monkeypatch.setattr(Reporter, "step", real)
    for change in (["--budget", "3min"], ["--size", "100MB"], ["--latency", "9ms"]):
        other = pocketclip(*words, *change)
        assert other.code == 1
        assert "was asked otherwise" in other.err.splitlines()[-1]
    again = pocketclip(*words)
    assert again.code == 0, again.err
    assert "goes on with what was begun there" in again.err
    assert "Limits: size" in again.err
    assert "train: 3 of 6" in again.err
    assert find_bundle(out).is_dir()
    assert dump_recipe(load_recipe(str(out))) == (out / "recipe.yaml").read_text()
    assert pocketclip(*words).code == 0  # a finished one tells its scores once more


@pytest.mark.usefixtures("made_up")
def test_a_folder_of_something_else_is_left_alone(pocketclip: Run, make_folder: MakeFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "recipe.yaml").write_text("seed: 1\n")
    ended = pocketclip("fit", f"folder:{make_folder(24)}", "--budget", "2min", "--out", out)
    assert ended.code == 1
    assert "another --out" in ended.err
    assert [path.name for path in out.iterdir()] == ["recipe.yaml"]


def test_a_folder_that_another_process_is_at_work_in(pocketclip: Run, make_folder: MakeFolder, tmp_path: Path) -> None:
    photos, out = f"folder:{make_folder(24)}", tmp_path / "out"
    commands = {
        ("fit", photos, "--budget", "2min", "--out", out): (out, "--out"),
        ("train", "quickstart/openmoji", "--out", out): (out, "--out"),
        ("train", "quickstart/openmoji", "--out", out, "--resume"): (out, "--out"),
        ("data", "filter", photos, "--out", out, "--min-image-side", "1"): (out, "--out"),
        ("data", "filter", photos, "--ids", tmp_path / "best.txt", "--min-image-side", "1"): (
            tmp_path / "best.txt.measured",
            "--ids",
        ),
        ("data", "mix", photos, "--out", out): (out, "--out"),
    }
    for words, (folder, option) in commands.items():
        with alone_in(folder):
            ended = pocketclip(*words)
        said = f"{folder}: another process is at work there; wait until it is done, or choose another {option}."
        assert (ended.code, ended.err.splitlines()[-1]) == (1, f"Error: {said}"), words
        assert not folder.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("made_up")
def test_a_limit_that_is_not_kept_after_all_is_said(
    pocketclip: Run, make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carry, "folder_bytes", lambda folder: 300e6)
    out = tmp_path / "my run"
    ended = pocketclip("fit", f"folder:{make_folder(24)}", "--budget", "2min", "--size", "200MB", "--out", out)
    assert ended.code == 1
    assert "size 300.0 MB of 200.0 MB" in ended.err.splitlines()[-1]
    assert f"pocketclip report '{out}'" in ended.err
    assert find_bundle(out).is_dir()


@pytest.mark.slow
def test_thirty_pictures_on_this_machine(pocketclip: Run, make_folder: MakeFolder, tmp_path: Path) -> None:
    out, photos = tmp_path / "out", f"folder:{make_folder(30)}"
    words = ["fit", photos, "--budget", "10min", "--size", "40MB", "--latency", "10s", "--memory", "8GB", "--out", out]
    ended = pocketclip(*words, "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["num_images"] == 4
    size = sum(path.stat().st_size for path in find_bundle(out).iterdir())
    assert size <= 40e6
    recipe = load_recipe(str(out))
    assert recipe.bundle_weights == "float16"
    hits = pocketclip("index", photos, "--model", out, "--out", tmp_path / "index")
    assert hits.code == 0, hits.err
    again = pocketclip("train", out / "recipe.yaml", "--out", tmp_path / "again", "--json")
    assert again.out.splitlines()[-1].partition("text_to_image_recall@1")[2][:60] in ended.out
