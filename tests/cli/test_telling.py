"""-q and -v: what is told, wherever they stand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def test_quiet_prints_results_and_nothing_else(pocketclip: Run, tmp_path: Path) -> None:
    mix = ["data", "mix", "scenes:4", "--json", "--out"]
    told = pocketclip(*mix, tmp_path / "told")
    assert "No source is held out" in told.err
    for number, words in enumerate([["-q", *mix], ["data", "-q", *mix[1:]], [*mix[:2], "--quiet", *mix[2:]]]):
        quiet = pocketclip(*words, tmp_path / str(number))
        assert (quiet.code, quiet.out, quiet.err) == (0, told.out, "")


def test_quiet_keeps_errors(pocketclip: Run) -> None:
    ended = pocketclip("-q", "train", "flikr")
    assert ended.code == 1
    assert ended.err.startswith("Error: Unknown recipe 'flikr'.")


def test_quiet_is_of_one_call(pocketclip: Run, tmp_path: Path) -> None:
    assert pocketclip("-q", "data", "mix", "scenes:4", "--out", tmp_path / "one").err == ""
    assert pocketclip("data", "mix", "scenes:4", "--out", tmp_path / "two").err != ""


@pytest.mark.parametrize(
    "words", [["-v", "list", "losses"], ["list", "losses", "--verbose"], ["-v", "list", "-v", "losses"]]
)
def test_verbose_names_versions_and_places_once(
    pocketclip: Run, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("POCKETCLIP_CACHE", str(tmp_path / "mine"))
    told = pocketclip(*words)
    assert "sigmoid" in told.out
    assert told.err.count("pocketclip ") == 1
    assert "torch " in told.err
    assert f"cache: {tmp_path / 'mine'}" in told.err


def test_verbose_shows_where_an_error_came_from(pocketclip: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    plain, verbose = pocketclip("train", broken), pocketclip("-v", "train", broken)
    assert (plain.code, verbose.code) == (1, 1)
    assert "Traceback" not in plain.err
    assert "Traceback" in verbose.err
    assert "yaml" in verbose.err.partition("Traceback")[2]
    assert verbose.err.endswith(plain.err)


def test_one_cannot_be_quiet_and_verbose(pocketclip: Run) -> None:
    assert pocketclip("-q", "list", "losses", "-v").code == 2


def test_formats_are_chosen_by_either_name(pocketclip: Run) -> None:
    words = ("data", "inspect", "scenes:3")
    table = pocketclip(*words, "--format", "table").out
    assert "num images" in table
    lines = {pocketclip(*words, *asked).out for asked in (["--json"], ["--format", "json"], ["--format=json"], [])}
    assert len(lines) == 1
    assert lines.pop().startswith('{"source": ')
    both = pocketclip(*words, "--json", "--format", "table")
    assert (both.code, both.out) == (2, "")
    wrong = pocketclip(*words, "--format", "jsno")
    assert wrong.code == 2
    assert "did you mean 'json'?" in wrong.err


def test_a_list_of_what_is_broken_is_json_only_where_asked_for(pocketclip: Run, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    words = ("data", "inspect", tmp_path, "--broken")
    assert pocketclip(*words).out.startswith(f"{tmp_path}/a.jpg: ")
    assert pocketclip(*words, "--format", "json").out.startswith('{"broken": ')


@pytest.mark.parametrize("name", ["--price", "--hourly-dollars"])
def test_an_options_earlier_name_goes_on_working(pocketclip: Run, name: str) -> None:
    told = pocketclip("cost", "nowhere", name, "-1")
    assert told.code == 2
    assert "'--price'" in told.err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["embed", "x", "--model", "y", "--out", "z", "--engine", "locla"], "did you mean 'local'?"),
        (["cost", "x", "--precision", "BFLOAT16"], "did you mean 'bfloat16'?"),
        (["list", "recipe"], "Did you mean 'recipes'?"),
        (["trian", "x"], "Did you mean 'train'?"),
        (["data", "convrt"], "Did you mean 'convert'?"),
        (["train", "openmoji"], "Did you mean 'quickstart/openmoji'?"),
        (["train", "Flickr8k_Heads_CPU"], "Did you mean 'flickr/flickr8k_heads_cpu'?"),
        (["train", "flickr/flickr8k_heads_cpu", "--set", "train.precision=float23"], "did you mean 'float32'?"),
        (["train", "flickr/flickr8k_heads_cpu", "--set", "train.keep=bset"], "did you mean 'best'?"),
    ],
)
def test_what_was_meant_stands_before_a_list(pocketclip: Run, words: list[str], hint: str) -> None:
    told = pocketclip(*words).err
    assert hint in told
    known = [place for word in ("Known:", "is not one of", "should be ") if (place := told.find(word)) >= 0]
    assert all(told.index(hint) < place for place in known)
