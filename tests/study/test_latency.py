"""Latency of a study's models: each once, by one process, kept, and what `pocketclip cost` measures."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import QuietWatch, tiny_recipe_settings
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.cost import latency as cost_latency
from pocketclip.cost.weigh import measure_cost, measure_latency
from pocketclip.errors import UserError
from pocketclip.records import Provenance
from pocketclip.stages.watch import SILENT
from pocketclip.study import latency as module
from pocketclip.study.claims import Claims
from pocketclip.study.grid import Study, load_study
from pocketclip.study.latency import CLAIM, FILE, Latencies
from pocketclip.study.runner import run_study
from pocketclip.study.table import size_columns, size_rows, study_notes

ROWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rate": {"train.learning_rate.heads": 0.01},
    "start": {"model.temperature": 0.1, "model.image_encoder.frozen_layers": 1},
    "wide": {"model.embed_dim": 24},
    "left no bundle": {"model.embed_dim": 40},
}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    (tmp_path / "tiny.yaml").write_text(json.dumps(tiny_recipe_settings(num_steps=2)))
    rows = [{"name": name, "set": settings} for name, settings in ROWS.items()]
    path = tmp_path / "tiny.study.yaml"
    path.write_text(json.dumps({"base": "tiny.yaml", "rows": rows, "seeds": [0]}))
    return load_study(str(path))


@pytest.fixture
def finished(study: Study, tmp_path: Path, tiny_pretrained: PretrainedModel) -> dict[str, list[Any]]:
    """Runs of all rows, with a bundle each but for the last."""
    runs = {row.name: [SimpleNamespace(folder=tmp_path / "out" / row.slug)] for row in study.rows}
    for name in list(ROWS)[:-1]:
        tiny_pretrained.save_pretrained(runs[name][0].folder / "bundle", card="")
    return runs


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was measured, in the place of measuring: 1 ms, 2 ms, ..."""
    found: list[float] = []

    def measure(model: object, **options: Any) -> tuple[float, Provenance]:
        found.append(len(found) + 1.0)
        return found[-1], Provenance(hardware="a toaster", other_load=1.5 if len(found) == 2 else 0.0, num_cores=2)

    monkeypatch.setattr(module, "measure_latency", measure)
    return found


def measured(study: Study, finished: dict[str, list[Any]], folder: Path, *, wanted: bool = True) -> Latencies:
    latencies = Latencies(folder, "cpu", wanted=wanted)
    latencies.measure(study.rows, finished, Claims(folder), SILENT)
    return latencies


def test_each_model_is_measured_once_and_never_again(
    study: Study, finished: dict[str, list[Any]], tmp_path: Path, timed: list[float]
) -> None:
    folder = tmp_path / "out"
    latencies = measured(study, finished, folder)
    assert [latencies.of(row) for row in study.rows] == [1.0, 1.0, 1.0, 2.0, None]
    for _ in range(4):  # as many as may die over one piece of work, and one more
        again = measured(study, finished, folder)
    assert [again.of(row) for row in study.rows] == [1.0, 1.0, 1.0, 2.0, None]
    assert timed == [1.0, 2.0]
    assert again.notes() == [
        f"latency of 'wide' was measured beside other work; delete {FILE} and resume to do it again"
    ]
    (folder / FILE).unlink()  # what the note says
    assert measured(study, finished, folder).of(study.rows[0]) == 3.0


def test_nothing_is_measured_where_it_is_turned_off_or_runs_left_no_bundle(
    study: Study, finished: dict[str, list[Any]], tmp_path: Path, timed: list[float]
) -> None:
    assert measured(study, finished, tmp_path / "out", wanted=False).of(study.rows[0]) is None
    measured(study, {row.name: finished["left no bundle"] for row in study.rows}, tmp_path / "out")
    assert (timed, (tmp_path / "out" / FILE).exists()) == ([], False)


def test_one_of_several_processes_measures_and_the_others_wait(
    study: Study, finished: dict[str, list[Any]], tmp_path: Path, timed: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.01)
    folder = tmp_path / "out"
    claim, found = Claims(folder).take(CLAIM), list[Latencies]()
    waiting = threading.Thread(target=lambda: found.append(measured(study, finished, folder)))
    waiting.start()
    waiting.join(0.1)
    assert (waiting.is_alive(), timed) == (True, [])
    other = Latencies(folder, "cpu", wanted=True)
    other._measure_all(other._missing(study.rows, finished), SILENT)
    waiting.join(60)
    assert (timed, found[0].of(study.rows[3])) == ([1.0, 2.0], 2.0)
    claim.give_back()  # type: ignore[union-attr]


def test_a_model_that_cannot_be_timed_and_a_damaged_file_are_named(
    study: Study, finished: dict[str, list[Any]], tmp_path: Path, timed: list[float]
) -> None:
    folder, watch = tmp_path / "out", QuietWatch()
    (finished["wide"][0].folder / "bundle" / "model.safetensors").write_bytes(b"cut")
    latencies = Latencies(folder, "cpu", wanted=True)
    latencies.measure(study.rows, finished, Claims(folder), watch)
    assert [latencies.of(row) for row in study.rows] == [1.0, 1.0, 1.0, None, None]
    (note,) = watch.notes
    assert note.startswith("latency of 'wide' was not measured (UserError: ")
    (folder / FILE).write_text("{")
    with pytest.raises(UserError, match=r"latency.json: damaged .*; delete it, and it is measured anew"):
        Latencies(folder, "cpu", wanted=True)


def test_it_is_what_cost_measures(tiny_pretrained: PretrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_latency, "time_calls", lambda call, *, seconds: [seconds] * 20)
    options: dict[str, Any] = {"image_size": 32, "context_length": 16, "device": "cpu", "seconds": 0.25}
    found, _ = measure_latency(tiny_pretrained.model, **options)
    assert found == measure_cost(tiny_pretrained.model, name="tiny", **options).metrics["latency_ms_p50"] == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("num_jobs", [1, 2])
def test_a_study_has_error_against_latency(tmp_path: Path, make: Callable[..., Study], num_jobs: int) -> None:
    folder = tmp_path / "out"
    record = run_study(make(), folder, watch=SILENT, device="cpu", num_jobs=num_jobs)
    small, large = (row.latency_ms for row in record.rows)
    assert None not in (small, large)
    assert small != large
    place = size_columns(record).index("latency, ms")
    assert [cells[place] for cells in size_rows(record)] == [f"{small:.1f}", f"{large:.1f}"]
    assert any(line.startswith("Latency is of one picture and one sentence") for line in study_notes(record))
    assert "Error against latency" in (folder / "study.html").read_text()
    assert {"latency.png", "latency.svg"} <= {path.name for path in (folder / "study_figures").iterdir()}
    again = run_study(make(), folder, watch=SILENT, device="cpu", resume=True)
    assert [row.latency_ms for row in again.rows] == [small, large]
    off = run_study(make(latency=False), folder, watch=SILENT, device="cpu", resume=True)
    assert [row.latency_ms for row in off.rows] == [None, None]
    assert "latency, ms" not in size_columns(off)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Study]:
    """A function that makes a grid of two picture sizes."""
    (tmp_path / "tiny.yaml").write_text(json.dumps(tiny_recipe_settings(num_steps=2)))

    def write(**keys: Any) -> Study:
        axes = {"pixels": {"key": "model.image_encoder.image_size", "values": [32, 96]}}
        path = tmp_path / "grid.study.yaml"
        path.write_text(json.dumps({"base": "tiny.yaml", "axes": axes, "seeds": [0], **keys}))
        return load_study(str(path))

    return write
