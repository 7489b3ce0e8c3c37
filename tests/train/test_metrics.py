"""`metrics.jsonl` and TensorBoard events."""

import json
from pathlib import Path

import pytest

from pocketclip.errors import UserError
from pocketclip.train.metrics import MetricsFile, read_metrics


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl", "train")
    file.write(1, 0.5, {"loss": 2.0})
    file.write(2, 1.0, {"loss": 1.0})
    rows = read_metrics(tmp_path)
    assert [(row["stage"], row["step"], row["epoch"], row["loss"]) for row in rows] == [
        ("train", 1, 0.5, 2.0),
        ("train", 2, 1.0, 1.0),
    ]
    assert file.newest == {"loss": 1.0}


def test_cutting_forgets_what_came_after_a_checkpoint(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl", "train")
    size = file.write(1, 0.5, {"loss": 2.0})
    file.write(2, 1.0, {"loss": 1.0})
    file.cut(size, 1)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1]


def test_a_line_cut_by_a_kill_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1}) + '\n{"step": 2, "lo')
    assert [row["step"] for row in read_metrics(tmp_path)] == [1]


def test_missing_metrics_are_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is this a run folder"):
        read_metrics(tmp_path)


def test_tensorboard_gets_the_same_values(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl", "train", tensorboard=True)
    file.write(3, 1.0, {"loss": 2.5})
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard" / "train"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(3, 2.5)]
