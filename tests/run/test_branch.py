"""A branch equals, to the bit, a run that came to its step itself; what it cannot equal is refused with the cure."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from conftest import QuietWatch, tiny_recipe_settings
from pocketclip.config import apply_change
from pocketclip.errors import UserError
from pocketclip.recipe import Recipe
from pocketclip.run.train import Outcome, train

CONSTANT = {"kind": "constant", "warmup_steps": 2}
COOLED = {**CONSTANT, "cooldown": 0.4}
LONG = {"num_steps": 14, "schedule": CONSTANT, "keep_steps": [6, 9], "evaluate_every": None}
SHORT = {"num_steps": 10, "schedule": COOLED, "evaluate_every": 0.5}
HEADS_FIRST = {"num_steps": 4, "batch_size": 4, "learning_rate": {"heads": 0.01}, "cache": {"views": ["centre"]}}
EARLY = {"name": "low", "num_steps": 3, "batch_size": 4, "learning_rate": {"heads": 0.01, "image_encoder": 0.001}}


def assert_equal_weights(first: Path, second: Path) -> None:
    one, two = (load_file(folder / "bundle" / "model.safetensors") for folder in (first, second))
    assert one.keys() == two.keys()
    for name in one:
        assert np.array_equal(one[name], two[name]), name


def run(folder: Path, changes: dict[str, object] | None = None, *, resume: bool = False, **settings: object) -> Outcome:
    values = {**tiny_recipe_settings(**settings), **(changes or {})}  # type: ignore[arg-type]
    return train(Recipe.parse(values, place="test"), folder, name="tiny", watch=QuietWatch(), resume=resume)


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long constant run that keeps two steps."""
    folder = tmp_path_factory.mktemp("trunk") / "run"
    run(folder, **LONG)
    return folder


def test_a_finished_trunk_keeps_what_branches_need(trunk: Path) -> None:
    names = {path.name for path in (trunk / "checkpoints" / "train").iterdir()}
    assert names == {"final.pt", "kept-00000006.pt", "kept-00000009.pt"}


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({}, {}),
        pytest.param(
            {},
            {"optimizer": {"kind": "adafactor"}, "ema_decay": 0.9, "augment": {"flip": True}},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {},
            {"learning_rate": {"heads": 0.01}, "cache": {"views": ["centre", "flip"]}, "num_workers": None},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"heads_first": HEADS_FIRST, "early_stages": [EARLY]},
            {"keep": "best", "schedule": {**COOLED, "shape": "sqrt"}},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["plain", "adafactor, average, augmentation", "cached features", "earlier stages, the best weights"],
)
def test_a_branch_equals_the_run_alone(changes: dict[str, object], settings: dict[str, object], tmp_path: Path) -> None:
    run(tmp_path / "trunk", changes, **{**settings, **LONG})
    whole = run(tmp_path / "whole", changes, **{**SHORT, **settings})
    branch = run(tmp_path / "branch", changes, **{**SHORT, **settings, "branch": str(tmp_path / "trunk")})
    assert_equal_weights(tmp_path / "whole", tmp_path / "branch")
    assert branch.splits["val"].result.metrics == whole.splits["val"].result.metrics
    assert branch.record.num_steps == whole.record.num_steps
    ends = [(tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1] for name in ("whole", "branch")]
    assert json.loads(ends[0]) == json.loads(ends[1])


def test_the_record_says_where_it_branched_and_counts_the_trunk(trunk: Path, tmp_path: Path) -> None:
    record = run(tmp_path / "run", **SHORT, branch={"run": str(trunk), "step": 6}).record
    own = record.branched_from
    assert own is not None
    trunk_record = json.loads((trunk / "records" / "run.json").read_text())
    assert (own.run, own.step, own.num_samples) == (str(trunk), 6, 24)
    assert own.recipe_hash == trunk_record["recipe_hash"]
    assert "branched_from" not in trunk_record
    assert record.num_steps == 10
    assert 0 < own.seconds < record.seconds["train_train"] + record.seconds["train_validate"]
    assert any(note.startswith(f"branched from {trunk} at step 6; its 24 samples") for note in record.notes)


@pytest.mark.slow
def test_a_branch_of_a_branch_and_an_earlier_step(trunk: Path, tmp_path: Path) -> None:
    """The middle one goes on at the full rate for some steps before its cooldown."""
    middle = {"num_steps": 12, "schedule": {**CONSTANT, "cooldown": 0.25}, "keep_steps": [8], "evaluate_every": None}
    run(tmp_path / "middle", **middle, branch={"run": str(trunk), "step": 6})
    last = {**SHORT, "schedule": {**CONSTANT, "cooldown": 0.2}}
    run(tmp_path / "last", **last, branch=str(tmp_path / "middle"))
    run(tmp_path / "whole", **last)
    assert_equal_weights(tmp_path / "whole", tmp_path / "last")


@pytest.mark.slow
def test_a_stopped_branch_goes_on_without_its_trunk(
    trunk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pocketclip.train.loop as loop

    original, calls = loop.train_step, []

    def stopped(*args: Any, **kwargs: Any) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    copy = shutil.copytree(trunk, tmp_path / "trunk")
    settings = {**SHORT, "branch": str(copy)}
    monkeypatch.setattr(loop, "train_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", **settings)
    monkeypatch.setattr(loop, "train_step", original)
    shutil.rmtree(copy)
    again = run(tmp_path / "cut", resume=True, **settings)
    run(tmp_path / "whole", **SHORT)
    assert_equal_weights(tmp_path / "whole", tmp_path / "cut")
    assert again.record.branched_from is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"branch": "no/such"}, r"train\.branch\.run: no/such is no run's folder"),
        ({"batch_size": 6}, r"was trained with train\.batch_size 4, and"),
        ({"learning_rate": {"heads": 0.001}}, r"trained with train\.learning_rate\.image_encoder 0\.001"),
        (
            {"schedule": {"kind": "constant", "cooldown": 0.4}},
            r"step 0 has 1 times the rate here, and 0\.5 in the trunk",
        ),
        ({"num_steps": 12}, r"no checkpoint of step 7; it has 6, 9\..*train\.branch\.step=6.*train\.keep_steps=\[7\]"),
        ({"num_steps": 5, "branch": {"step": 9}}, r"the run is over at step 5 \(got 9\)"),
        ({"branch": {"step": 9}}, r"the cooldown begins at step 6 of 10 \(got 9\)"),
    ],
)
def test_what_a_branch_cannot_equal_is_refused(
    settings: dict[str, Any], message: str, trunk: Path, tmp_path: Path
) -> None:
    branch = settings.get("branch", {})
    branch = branch if isinstance(branch, str) else {"run": str(trunk), **branch}
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", **{**SHORT, **settings, "branch": branch})


def test_the_named_change_is_one_that_works(trunk: Path, tmp_path: Path) -> None:
    values = tiny_recipe_settings(**{**SHORT, "num_steps": 12, "branch": {"run": str(trunk)}})
    with pytest.raises(UserError, match=r"no checkpoint of step 7") as told:
        train(Recipe.parse(values, place="x"), tmp_path / "run", name="x", watch=QuietWatch())
    change = str(told.value).split("such as --set ")[1].split(",")[0]
    apply_change(values, change)
    again = train(Recipe.parse(values, place="x"), tmp_path / "again", name="x", watch=QuietWatch())
    assert again.record.num_steps == 12


def test_other_data_are_no_trunk(trunk: Path, tmp_path: Path) -> None:
    data = {"train": {"kind": "scenes", "count": 25, "image_size": 32}, "val": "scenes:8,seed=1,image_size=32"}
    with pytest.raises(UserError, match=r"data\.train is not what the run was begun with"):
        run(tmp_path / "run", {"data": data}, **SHORT, branch=str(trunk))


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [{"kind": "cosine"}, {"kind": "plateau"}])
def test_only_constant_runs_are_trunks(schedule: dict[str, object], tmp_path: Path) -> None:
    run(tmp_path / "trunk", **{**LONG, "schedule": schedule, "evaluate_every": 1.0})
    with pytest.raises(UserError, match=rf"trunk's schedule is {schedule['kind']}"):
        run(tmp_path / "run", **SHORT, branch=str(tmp_path / "trunk"))


def test_early_stages_neither_branch_nor_keep() -> None:
    values = {**tiny_recipe_settings(), "early_stages": [{**EARLY, "keep_steps": [2]}]}
    with pytest.raises(UserError, match=r"low: runs branch within their last stage"):
        Recipe.parse(values, place="x")


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["", '{"run": '])
def test_a_damaged_note_of_the_trunk_names_the_cure_that_works(trunk: Path, tmp_path: Path, cut: str) -> None:
    settings = {**SHORT, "branch": {"run": str(trunk), "step": 6}}
    whole = run(tmp_path / "run", **settings)
    note, metrics = tmp_path / "run" / "trunk.json", tmp_path / "run" / "metrics.jsonl"
    before, lines = note.read_text(), metrics.read_text()
    note.write_text(cut)
    with pytest.raises(UserError, match=r"trunk\.json: damaged \(.*\); delete it"):
        run(tmp_path / "run", resume=True, **settings)
    note.unlink()
    again = run(tmp_path / "run", resume=True, **settings)
    assert (note.read_text(), metrics.read_text()) == (before, lines)
    assert again.record.metrics == whole.record.metrics
