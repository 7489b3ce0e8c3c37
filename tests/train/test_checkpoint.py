"""Checkpoints are whole, bounded in number and hold no arbitrary objects."""

import errno
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from pocketclip.errors import UserError
from pocketclip.train import checkpoint
from pocketclip.train.checkpoint import CheckpointFolder


def test_the_newest_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "new", keep=2)
    for step in (1, 2, 10, 30):
        folder.save(step, {"step": step})
    assert [path.name for path in folder.steps()] == ["step-00000010.pt", "step-00000030.pt"]
    assert folder.load_newest() == {"step": 30}


def test_a_finished_stage_keeps_its_final_weights_only(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"step": 1})
    checkpoint.save_atomically(folder.best, {"step": 1})
    folder.finish({"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["final.pt"]
    assert folder.load_newest() == {"step": 2}


def test_kept_steps_outlive_newer_ones_and_the_end(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=1)
    folder.keep_step(2, {"step": 2})
    for step in (4, 6):
        folder.save(step, {"step": step})
    assert {step: path.name for step, path in folder.by_step().items()} == {
        2: "kept-00000002.pt",
        6: "step-00000006.pt",
    }
    folder.finish({"step": 7})
    assert list(folder.by_step()) == [2]
    assert folder.load_newest() == {"step": 7}


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path).load_newest() is None


def test_a_full_disk_keeps_the_older_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"step": 1})

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="No space left on device"):
        folder.save(2, {"step": 2})
    assert folder.load_newest() == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.pt"]


def test_a_damaged_checkpoint_names_its_file_and_the_cure(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"step": 1})
    folder.steps()[0].write_bytes(b"half a file")
    with pytest.raises(UserError, match=r"step-00000001.pt.*Delete it to go on"):
        folder.load_newest()


def test_arbitrary_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"state": Path("x")}, path)
    with pytest.raises(UserError, match="cannot read"):
        checkpoint.load(path)


def test_generators_go_on_where_they_were(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    checkpoint.save_atomically(path, checkpoint.random_states())

    def draw() -> tuple[float, float, float]:
        return float(torch.rand(())), float(np.random.rand()), random.random()

    expected = draw()
    draw()
    checkpoint.restore_random_states(checkpoint.load(path))
    assert draw() == expected
