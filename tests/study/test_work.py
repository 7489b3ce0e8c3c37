"""A grid from file to table, by one process or several: each cell once, whoever dies, fails or falls behind."""

import json
import multiprocessing
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import QuietWatch, tiny_recipe_settings
from pocketclip.errors import Interrupted, UserError
from pocketclip.stages.watch import SILENT, Watch
from pocketclip.study.grid import Study, load_study
from pocketclip.study.record import StudyRecord, read_study
from pocketclip.study.runner import run_study
from pocketclip.study.runs import PlannedRun, failures
from simulated import Simulated

Make = Callable[..., Study]
HALVING = {"rungs": [0.25, 0.5, 1], "keep": 0.5, "metric": "mean_recall"}


@pytest.fixture
def grid(tmp_path: Path) -> Make:
    """A function that makes a study of so many cells."""
    (tmp_path / "tiny.yaml").write_text(json.dumps(tiny_recipe_settings(num_steps=8)))

    def make(*sizes: int, **keys: Any) -> Study:
        names = ("learning_rate.heads", "max_grad_norm", "learning_rate.text_encoder")
        axes = {
            f"axis {number}": {"key": f"train.{names[number]}", "values": [0.001 * (n + 1) for n in range(size)]}
            for number, size in enumerate(sizes)
        }
        path = tmp_path / "grid.study.yaml"
        path.write_text(json.dumps({"base": "tiny.yaml", "axes": axes, "seeds": [0], **keys}))
        return load_study(str(path))

    return make


def several(count: int, study: Study, folder: Path, simulated: Simulated) -> list[int | None]:
    """Carry a study out with so many processes at once; returns how each ended."""

    def work() -> None:
        run_study(study, folder, watch=SILENT, resume=True, carry_out=simulated)

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def check_each_once(record: StudyRecord, simulated: Simulated, count: int) -> None:
    assert set(Counter(simulated.tries()).values()) == {1}
    assert len(simulated.tries()) == record.num_finished == record.num_runs == count == len(record.rows)
    assert record.failed == {}


@pytest.mark.slow
def test_two_hundred_instant_cells_by_four_processes(grid: Make, tmp_path: Path) -> None:
    simulated = Simulated(tmp_path)
    assert several(4, grid(20, 10), tmp_path / "out", simulated) == [0, 0, 0, 0]
    check_each_once(read_study(tmp_path / "out"), simulated, 200)


@pytest.mark.slow
def test_a_thousand_cells_by_three_processes(grid: Make, tmp_path: Path) -> None:
    simulated = Simulated(tmp_path)
    assert several(3, grid(10, 10, 10), tmp_path / "out", simulated) == [0, 0, 0]
    check_each_once(read_study(tmp_path / "out"), simulated, 1000)
    assert len(simulated.processes()) == 3


def test_a_resumed_study_repeats_nothing(grid: Make, tmp_path: Path) -> None:
    simulated, study = Simulated(tmp_path), grid(3, 2, seeds=[0, 1])
    stopped = 0

    def stopping(run: PlannedRun, watch: Watch) -> str | None:
        nonlocal stopped
        stopped += 1
        if stopped == 5:
            raise Interrupted("Stopped.")
        return simulated(run, watch)

    with pytest.raises(Interrupted):
        run_study(study, tmp_path / "out", watch=SILENT, carry_out=stopping)
    assert read_study(tmp_path / "out").num_finished == 4
    watch = QuietWatch()
    record = run_study(study, tmp_path / "out", watch=watch, resume=True, carry_out=simulated)
    assert record.num_finished == record.num_runs == 12
    assert len(simulated.tries()) == len(set(simulated.tries())) == 12
    assert watch.notes[0] == "4 of 12 runs were finished before"
    assert [row.levels for row in record.rows][1] == {"axis 0": "0.001", "axis 1": "0.002"}
    assert record.axes == {"axis 0": ["0.001", "0.002", "0.003"], "axis 1": ["0.001", "0.002"]}


def test_a_cell_whose_process_is_killed_in_its_first_second_runs_again(grid: Make, tmp_path: Path) -> None:
    simulated, study = Simulated(tmp_path), grid(3)

    def killed(run: PlannedRun, watch: Watch) -> str | None:
        if run.row == "0.002":
            os.kill(os.getpid(), signal.SIGKILL)
        return simulated(run, watch)

    def work() -> None:
        run_study(study, tmp_path / "out", watch=SILENT, resume=True, carry_out=killed)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    record = run_study(study, tmp_path / "out", watch=SILENT, resume=True, carry_out=simulated)
    assert record.num_finished == 3
    assert sorted(simulated.tries()) == ["0-001.seed-0", "0-002.seed-0", "0-003.seed-0"]


def test_three_early_failures_do_not_end_a_study(grid: Make, tmp_path: Path) -> None:
    simulated, study = Simulated(tmp_path), grid(6)
    simulated.problems = {
        "0.001, seed 0": "diverged: train: step 2: the loss is not finite",
        "0.002, seed 0": "its process ended with code -9",
        "0.003, seed 0": "CUDA out of memory",
    }
    record = run_study(study, tmp_path / "out", watch=SILENT, carry_out=simulated)
    assert (record.num_finished, len(record.failed), record.num_runs) == (3, 3, 6)
    assert [row.dropped for row in record.rows] == [*simulated.problems.values(), None, None, None]
    assert failures(record).startswith("3 of 6 runs failed; --resume tries them again, those that diverged (1) ")
    simulated.problems, watch = {}, QuietWatch()
    again = run_study(study, tmp_path / "out", watch=watch, resume=True, carry_out=simulated)
    assert again.num_finished == 5  # what diverged would diverge again
    assert again.rows[0].dropped == "diverged: train: step 2: the loss is not finite"
    assert any(note.startswith("not tried again, since they diverged: 0.001, seed 0") for note in watch.notes)
    told = failures(again).splitlines()[0]
    assert told.endswith("--resume tries them again, those that diverged (1) only when their folders are deleted.")
    shutil.rmtree(tmp_path / "out" / "0-001" / "seed-0")
    assert run_study(study, tmp_path / "out", watch=SILENT, resume=True, carry_out=simulated).num_finished == 6


def test_a_study_all_of_whose_runs_fail_says_why(grid: Make, tmp_path: Path) -> None:
    simulated = Simulated(tmp_path)
    simulated.problems = {f"{0.001 * (n + 1)}, seed 0": "the disk is full" for n in range(2)}
    with pytest.raises(UserError, match=r"no run came to an end.*the disk is full"):
        run_study(grid(2), tmp_path / "out", watch=SILENT, carry_out=simulated)


SCORES = {f"{0.001 * (n + 1):g}": n / 10 for n in range(8)}
"""The higher the rate the better."""


def finished(record: StudyRecord) -> list[str]:
    return [row.name for row in record.rows if row.runs]


def test_halving_with_one_process_saves_steps(grid: Make, tmp_path: Path) -> None:
    simulated = Simulated(tmp_path, SCORES)
    record = run_study(grid(8, halving=HALVING), tmp_path / "out", watch=SILENT, carry_out=simulated)
    assert finished(record) == ["0.007", "0.008"]
    assert record.num_finished == record.num_runs == 2
    tries = Counter(key.partition(".seed-0")[2] for key in simulated.tries())
    assert tries == {".rung-0": 8, ".rung-1": 4, "": 2}
    shares = {".rung-0": 0.25, ".rung-1": 0.25, "": 0.5}
    assert sum(shares[rung] * count for rung, count in tries.items()) == 4  # of 8 runs' worth of steps
    assert record.rows[0].dropped == ("stopped early at rung 1, 25 % of its steps: mean_recall 0, and the cut was 0.4")
    assert "stopped early at rung 2, 50 %" in str(record.rows[5].dropped)
    again = run_study(grid(8, halving=HALVING), tmp_path / "out", watch=SILENT, resume=True, carry_out=simulated)
    assert sum(tries.values()) == len(simulated.tries())
    assert [row.dropped for row in again.rows] == [row.dropped for row in record.rows]


def test_a_kill_between_rungs_keeps_the_survivors(grid: Make, tmp_path: Path) -> None:
    simulated, study = Simulated(tmp_path, SCORES), grid(8, halving=HALVING)

    def killed(run: PlannedRun, watch: Watch) -> str | None:
        if run.rung is not None and run.rung.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return simulated(run, watch)

    def work() -> None:
        run_study(study, tmp_path / "out", watch=SILENT, carry_out=killed)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    simulated.scores = {name: -score for name, score in SCORES.items()}  # what was decided stays
    record = run_study(study, tmp_path / "out", watch=SILENT, resume=True, carry_out=simulated)
    assert finished(record) == ["0.005", "0.006"]
    assert Counter(key.partition(".seed-0")[2] for key in simulated.tries())[".rung-0"] == 8


def test_halving_by_several_processes_is_that_by_one(grid: Make, tmp_path: Path) -> None:
    simulated = Simulated(tmp_path, SCORES)
    assert several(3, grid(8, halving=HALVING), tmp_path / "out", simulated) == [0, 0, 0]
    assert finished(read_study(tmp_path / "out")) == ["0.007", "0.008"]
    assert set(Counter(simulated.tries()).values()) == {1}


def test_halving_goes_on_over_failures_and_judges_late_cells_by_the_cut(grid: Make, tmp_path: Path) -> None:
    simulated = Simulated(tmp_path, SCORES)
    simulated.problems = {f"0.00{n}, seed 0": "out of memory" for n in (6, 7, 8)}
    record = run_study(grid(8, halving=HALVING), tmp_path / "out", watch=SILENT, carry_out=simulated)
    assert finished(record) == ["0.004", "0.005"]
    assert record.rows[7].dropped == "out of memory"
    simulated.problems = {}
    record = run_study(grid(8, halving=HALVING), tmp_path / "out", watch=SILENT, resume=True, carry_out=simulated)
    assert finished(record) == ["0.004", "0.005", "0.006", "0.007", "0.008"]


@pytest.mark.parametrize(
    ("halving", "said"),
    [
        (
            {**HALVING, "metric": "mean_recal"},
            "halving.metric: mean_recal is not measured. Did you mean 'mean_recall'?",
        ),
        (
            {**HALVING, "metric": "corrected_mean_recall"},  # of a bank, which is made at the end
            "halving.metric: corrected_mean_recall is not measured. Did you mean 'mean_recall'?",
        ),
        ({"rungs": [0.5]}, "rungs go up and end with 1"),
        ({"rungs": [0.5, 0.25, 1]}, "rungs go up and end with 1"),
        ({"rungs": [0.5, 0.9]}, "rungs go up and end with 1"),
        ({"rungs": [0, 1]}, "halving.rungs.0"),
        ({"rungs": [0.5, 1], "keep": 1}, "halving.keep"),
        ({"rungs": [0.5, 1], "kep": 1}, "unknown key 'kep'. Did you mean 'keep'?"),
    ],
)
def test_bad_halvings_are_one_clear_line(halving: dict[str, Any], said: str, grid: Make) -> None:
    with pytest.raises(UserError) as caught:
        grid(2, halving=halving)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_another_metric_for_what_was_decided_is_refused(grid: Make, tmp_path: Path) -> None:
    simulated = Simulated(tmp_path, SCORES)
    run_study(grid(8, halving=HALVING), tmp_path / "out", watch=SILENT, carry_out=simulated)
    for file in (tmp_path / "out").glob("*/seed-0/rung-*.json"):
        file.write_text(file.read_text().replace("mean_recall", "val_loss"))
    with pytest.raises(UserError, match=r"was decided by mean_recall, and halving\.metric is val_loss now"):
        run_study(grid(8, halving={**HALVING, "metric": "val_loss"}), tmp_path / "out", watch=SILENT, resume=True,
                  carry_out=simulated)  # fmt: skip
