"""The table and the trace of `--profile`."""

import json
from pathlib import Path

import pytest
import torch
from torch.profiler import record_function

from conftest import QuietWatch, tiny_recipe_settings
from pocketclip.recipe import Recipe
from pocketclip.run.train import train
from pocketclip.train.profile import MEASURED, PHASES, SKIPPED, WARM_UP, phase_table, step_profiler


def run_steps(folder: Path, count: int) -> None:
    profiler = step_profiler(folder, "stage")
    with profiler:
        for _ in range(count):
            with record_function("loss"):
                torch.ones(50, 50) @ torch.ones(50, 50)
            with record_function("something else"):
                torch.ones(300, 300) @ torch.ones(300, 300)
            profiler.step()


def test_phases_are_timed_and_nothing_else(tmp_path: Path) -> None:
    run_steps(tmp_path, SKIPPED + WARM_UP + MEASURED)
    rows = [line.split() for line in (tmp_path / "stage.txt").read_text().splitlines()]
    assert rows[1][0] == "loss"
    assert float(rows[1][1]) >= 0
    assert rows[1][2] == "100.0%"
    assert {phase.split()[0] for phase in PHASES} <= {row[0] for row in rows}


def test_the_trace_is_one_that_viewers_read(tmp_path: Path) -> None:
    run_steps(tmp_path, SKIPPED + WARM_UP + MEASURED)
    events = json.loads((tmp_path / "stage-trace.json").read_text())["traceEvents"]
    assert sum(event.get("name") == "loss" for event in events) == MEASURED


def test_too_few_steps_write_nothing(tmp_path: Path) -> None:
    run_steps(tmp_path, 3)
    assert not list(tmp_path.glob("*.txt"))


def test_the_table_is_sorted_and_adds_up() -> None:
    lines = phase_table({"data": 0.001, "loss": 0.003}).splitlines()
    assert [line.split()[0] for line in lines] == ["phase", "loss", "data", "together"]
    assert lines[1].split() == ["loss", "3.0", "75.0%"]
    assert lines[3].split() == ["together", "4.0", "100.0%"]


@pytest.mark.parametrize("cached", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_run_is_profiled_without_changing_it(tmp_path: Path, cached: bool) -> None:
    changes = {"num_steps": 14, **({"cache": {}} if cached else {})}
    recipe = Recipe.parse(tiny_recipe_settings(**changes), place="test")
    watch = QuietWatch()
    plain = train(recipe, tmp_path / "plain", name="tiny", watch=watch)
    watched = train(recipe, tmp_path / "watched", name="tiny", watch=watch, with_profile=True)
    assert watched.splits["val"].result.metrics == plain.splits["val"].result.metrics
    table = (tmp_path / "watched" / "profile" / "train.txt").read_text()
    milliseconds = {line[:12].strip(): float(line[12:23]) for line in table.splitlines()[1:]}
    assert all(milliseconds[phase] > 0 for phase in PHASES)
    assert not (tmp_path / "plain" / "profile").exists()
