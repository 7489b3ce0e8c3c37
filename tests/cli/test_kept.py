"""Ctrl-C in every stage of every command: one line says what is kept, and what it says is true."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.cli.kept import KEPT, kept
from pocketclip.cli.progress import Reporter
from pocketclip.cli.reference import command_names

Run = Callable[..., Any]
SCENES = "scenes:40,image_size=32"


@pytest.fixture
def bundle(tiny_pretrained: PretrainedModel, tmp_path: Path) -> Path:
    return tiny_pretrained.save_pretrained(tmp_path / "bundle", card="")


@pytest.fixture
def stop_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """A function after which Ctrl-C comes as soon as a work of this name is told of; None lets all go on."""
    real = Reporter.work

    def set_up(name: str | None) -> None:
        def pressed(self: Reporter, work: str, *told: Any) -> None:
            real(self, work, *told)
            if work == name:
                os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(Reporter, "work", pressed if name else real)

    return set_up


def test_every_command_has_its_word() -> None:
    assert sorted(KEPT) == command_names()
    assert all(kept(["--quiet", *name.split(), "x", "--out", "y"]) == f"Stopped. {KEPT[name]}" for name in KEPT)
    assert kept([]) == kept(["nonsense"]) == "Stopped."


@pytest.mark.parametrize(
    ("words", "work"),
    [
        (["data", "inspect", SCENES], "reading images"),
        (["evaluate", "{bundle}", "--data", SCENES], "encoding images"),
        (["index", SCENES, "--model", "{bundle}", "--out", "{out}"], "encoding images"),
        (["demo", "retrieval", "{bundle}", "--data", SCENES, "--out", "{out}"], "encoding images"),
    ],
)
def test_what_writes_at_its_end_leaves_nothing(
    pocketclip: Run, bundle: Path, tmp_path: Path, stop_in: Callable[[str | None], None], words: list[str], work: str
) -> None:
    typed = [word.format(bundle=bundle, out=tmp_path / "out") for word in words]
    stop_in(work)
    ended = pocketclip(*typed)
    assert (ended.code, ended.err.splitlines()[-1]) == (130, kept(typed))
    assert not (tmp_path / "out").exists()
    stop_in(None)
    assert pocketclip(*typed).code == 0


@pytest.mark.parametrize(
    ("words", "work"),
    [
        (["data", "convert", SCENES, "--samples-per-shard", "8", "--out", "{out}"], "writing samples"),
        (["data", "filter", SCENES, "--min-image-side", "8", "--out", "{out}"], "measuring images"),
        (["data", "filter", SCENES, "--min-image-side", "8", "--out", "{out}"], "writing shards"),
        (["data", "mix", SCENES, "--out", "{out}"], "reading scenes:40"),
        (["data", "mix", SCENES, "--out", "{out}"], "finding duplicates"),
        (["embed", SCENES, "--model", "{bundle}", "--out", "{out}"], "encoding images"),
        (["data", "features", "{recipe}"], "encoding images"),
        (["data", "features", "{recipe}"], "encoding captions"),
        (["train", "{recipe}", "--out", "{out}"], "comparing pictures"),
        (["train", "{recipe}", "--out", "{out}"], "encoding images"),
        (["train", "{recipe}", "--out", "{out}"], "encoding captions"),
    ],
)
def test_what_goes_on_does(
    pocketclip: Run,
    bundle: Path,
    tmp_path: Path,
    tiny_recipe_file: Callable[..., Path],
    stop_in: Callable[[str | None], None],
    words: list[str],
    work: str,
) -> None:
    recipe = tiny_recipe_file(cache={"views": ["centre"]})
    typed = [word.format(bundle=bundle, out=tmp_path / "out", recipe=recipe) for word in words]
    stop_in(work)
    ended = pocketclip(*typed)
    assert (ended.code, ended.err.splitlines()[-1]) == (130, kept(typed))
    stop_in(None)
    again = pocketclip(*typed, *(["--resume"] if "--resume" in kept(typed) else []))
    assert again.code == 0, again.err
