"""A study of two tiny towers from file to table: resuming, crashes, missing weights, scores and the record."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import QuietWatch, encode_picture
from pocketclip.errors import Interrupted, UserError
from pocketclip.study.record import is_tower_study
from pocketclip.study.towers import runner
from pocketclip.study.towers.config import load_tower_study
from pocketclip.study.towers.process import in_a_process
from pocketclip.study.towers.record import TowersRecord, read_towers
from pocketclip.study.towers.table import COLUMNS, tower_notes, tower_rows

SETTINGS = {
    "towers": {"plain": {"name": "test_resnet", "image_size": 32}, "Vi/T": {"name": "test_vit", "image_size": 32}},
    "seconds": 0.01, "training_steps": 2, "training_batch_size": 2, "epoch_images": 10,
}  # fmt: skip


class Here:
    """Stands for `in_a_process`: in this one, which is faster, and ended where a test asks for it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.problems: dict[str, str] = {}

    def __call__(self, work: Any, log: Path, tell: Callable[[float], None]) -> tuple[Any, str | None]:
        name = log.name.removesuffix(".log")
        self.done.append(name)
        if (problem := self.problems.get(name)) == "stop":
            raise Interrupted("Stopped.")
        if problem is not None:
            return None, problem
        try:
            return work(tell=tell), None
        except UserError as error:
            return None, str(error)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    """In the place of processes; the hub is known not to answer."""
    own = Here()
    monkeypatch.setattr("pocketclip.cost.latency.WARM_UP_SECONDS", 0.0)
    monkeypatch.setattr(runner, "in_a_process", own)
    monkeypatch.setattr(runner._Towers, "_is_offline", True)
    return own


@pytest.fixture
def classes(tmp_path: Path) -> str:
    """A source of two classes."""
    for number in range(20):
        folder = tmp_path / "photos" / ("even" if number % 2 == 0 else "odd")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(encode_picture(number))
    return f"folder:{tmp_path / 'photos'},classes=folders"


def weigh(folder: Path, *changes: str, resume: bool = False, **keys: Any) -> tuple[TowersRecord, list[str]]:
    path, watch = folder / "tiny.study.yaml", QuietWatch()
    path.write_text(json.dumps({**SETTINGS, **keys}))
    study = load_tower_study(str(path), changes)
    return runner.run_tower_study(study, folder / "out", watch=watch, resume=resume), watch.notes


def test_every_tower_is_measured_and_kept(here: Here, tmp_path: Path) -> None:
    record, notes = weigh(tmp_path)
    assert here.done == ["plain.cost", "plain.training", "vi-t.cost", "vi-t.training"]
    for row in record.rows:
        assert row.cost is not None
        assert row.training is not None
        assert row.cost.parameters >= row.cost.parameters_fused > 0
        assert row.cost.macs > 0
        for spread in (row.cost.latency_ms_batch_1, row.cost.latency_ms_batch_32, row.training.step_ms):
            assert 0 < spread.low <= spread.median <= spread.high
        assert row.cost.latency_ms_batch_32.num_calls >= 20
        assert row.cost.peak_memory_mib > 0
        assert row.training.seconds_per_epoch == pytest.approx(5 * row.training.step_ms.median / 1000, abs=0.06)
        assert (row.missing, row.score) == ({}, None)
    out = tmp_path / "out"
    assert is_tower_study(out)
    assert read_towers(out) == record
    written = json.loads((out / "study.json").read_text())
    assert {"kind", "command", "hardware", "date", "code_version", "other_load"} <= written.keys()
    assert sorted(path.name for path in (out / "towers").iterdir()) == ["plain.json", "vi-t.json"]
    assert (out / "study.md").is_file()
    assert (out / "study.html").is_file()
    assert all(len(cells) == len(COLUMNS) for cells in tower_rows(record))
    assert [note.partition(";")[0] for note in notes] == ["1 of 2: plain", "2 of 2: Vi/T"]


def test_a_stopped_study_goes_on_and_measures_nothing_twice(here: Here, tmp_path: Path) -> None:
    here.problems = {"vi-t.cost": "stop"}
    with pytest.raises(Interrupted):
        weigh(tmp_path)
    assert len(read_towers(tmp_path / "out").rows) == 1
    assert any("1 of 2 towers are measured" in note for note in tower_notes(read_towers(tmp_path / "out")))
    here.problems, here.done = {}, []
    with pytest.raises(UserError, match=r"holds a study already\. Go on with --resume"):
        weigh(tmp_path)
    record, notes = weigh(tmp_path, resume=True)
    assert here.done == ["vi-t.cost", "vi-t.training"]
    assert notes[0] == "1 of 2 towers were measured before"
    assert [row.name for row in record.rows] == ["plain", "Vi/T"]
    here.done = []
    assert weigh(tmp_path, resume=True)[0].rows == record.rows
    assert here.done == []


def test_what_a_tower_lacks_is_told_in_its_row_and_tried_again(here: Here, tmp_path: Path) -> None:
    here.problems = {"plain.training": "its process was ended by SIGSEGV", "vi-t.cost": "RuntimeError: no memory"}
    record, notes = weigh(tmp_path)
    assert record.rows[0].missing == {"training": "its process was ended by SIGSEGV"}
    assert record.rows[0].cost is not None
    assert record.rows[1].cost is None
    assert record.rows[1].training is not None
    assert notes[0].endswith("no training time: its process was ended by SIGSEGV")
    told = tower_notes(record)
    assert "No training time of plain: its process was ended by SIGSEGV." in told
    assert "No costs of Vi/T: RuntimeError: no memory." in told
    assert [cells[0].partition(",")[0] for cells in tower_rows(record)] == ["plain", "Vi/T"]  # without costs, last
    here.problems, here.done = {}, []
    again, _ = weigh(tmp_path, resume=True)
    assert here.done == ["plain.training", "vi-t.cost"]
    assert all(row.missing == {} for row in again.rows)
    assert again.rows[0].cost == record.rows[0].cost


@pytest.mark.slow
def test_towers_with_weights_get_a_score(here: Here, tmp_path: Path, classes: str) -> None:
    import timm
    import torch

    weights = tmp_path / "weights.pt"
    torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), weights)
    towers = {
        "mine": {"name": "test_resnet", "image_size": 32, "pretrained": str(weights)},
        "elsewhere": {"name": "test_vit", "image_size": 32},
        "unasked": {"name": "test_resnet", "image_size": 32, "pretrained": "none"},
    }
    weigh(tmp_path, towers=towers)
    here.done = []
    record, _ = weigh(tmp_path, f"data={classes}", towers=towers, resume=True)  # scores may come later
    assert here.done == ["mine.score", "elsewhere.score"]
    mine, elsewhere, unasked = record.rows
    assert mine.score is not None
    assert mine.score.num_images == 4  # a fifth
    assert {cells[0].partition(",")[0] for cells in tower_rows(record) if cells[-1]} == {"mine"}
    why = "no weights at hand: no pip package carries them, and the hub did not answer"
    assert (elsewhere.missing, unasked.missing) == ({"score": why}, {"score": "pretrained is none"})
    assert f"No score of elsewhere: {why}." in tower_notes(record)
    with pytest.raises(UserError, match=r"mine\.json: was measured with other settings than 'mine' has now"):
        weigh(tmp_path, f"data={classes}", f"train_data={classes}", towers=towers, resume=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [("scenes", "no image has a class. Classes come from"), ("folder:nothing", "No such file or folder: nothing")],
)
def test_data_that_give_no_score_are_refused_before_anything_is_measured(
    here: Here, tmp_path: Path, data: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        weigh(tmp_path, f"data={data}")
    assert here.done == []
    assert not (tmp_path / "out").exists()


def test_other_folders_and_other_settings_are_refused(here: Here, tmp_path: Path) -> None:
    weigh(tmp_path, only=["plain"])
    with pytest.raises(UserError, match=r"plain\.json: was measured with other settings than 'plain' has now; delete"):
        weigh(tmp_path, "seconds=0.02", resume=True)
    row = tmp_path / "out" / "towers" / "plain.json"
    row.write_text(row.read_text()[:40])
    with pytest.raises(UserError, match=r"plain\.json: the row is damaged .*; delete the file and resume"):
        weigh(tmp_path, resume=True)
    row.unlink()
    weigh(tmp_path, only=["plain"], resume=True)
    (tmp_path / "out" / "study.json").unlink()
    (tmp_path / "out" / "study.yaml").write_text("base: x\nrows: []\n")
    with pytest.raises(UserError, match="holds a study of recipes"):
        weigh(tmp_path, resume=True)
    (tmp_path / "out" / "study.yaml").unlink()
    with pytest.raises(UserError, match="is not empty and holds no study"):
        weigh(tmp_path)


@pytest.mark.slow
def test_each_part_has_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[Path]()

    def counted(work: Any, log: Path, tell: Callable[[float], None]) -> tuple[Any, str | None]:
        started.append(log)
        return in_a_process(work, log, tell)

    monkeypatch.setattr(runner, "in_a_process", counted)
    record, _ = weigh(tmp_path)
    assert len(started) == 4
    assert all(row.cost is not None and row.training is not None for row in record.rows)
