"""Blocks joined into arrays that are mapped into memory, whole or not there."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from pocketclip.errors import UserError
from pocketclip.stages import columns as columns_module
from pocketclip.stages.columns import join, read_joined, write_column
from pocketclip.stages.engine import compute_here, fill
from pocketclip.stages.store import Block, BlockFolder, Columns, Stage
from pocketclip.stages.watch import SILENT

COLUMNS: Columns = {"rows": np.zeros((0, 2), np.float16), "numbers": np.zeros(0, np.int64)}


def pairs(num_samples: int = 7, *, broken: int = 0) -> Stage:
    """Two equal columns of each sample's number; the first `broken` samples are broken."""

    def compute(start: int, stop: int) -> Block:
        numbers = np.arange(max(start, min(broken, stop)), stop)
        rows = np.stack([numbers, numbers], axis=1).astype(np.float16) if len(numbers) else np.zeros((0, 0))
        return Block({"rows": rows, "numbers": numbers}, [f"sample {n}" for n in range(start, min(broken, stop))])

    return Stage("counting", {"columns": 2}, num_samples, 3, compute)


def filled(out: Path, stage: Stage) -> BlockFolder:
    return fill(out / "blocks", stage, lambda: stage, compute_here, SILENT, resume=True)


@pytest.mark.parametrize(("num_samples", "broken"), [(7, 0), (7, 4), (3, 3), (0, 0)])
def test_joined_blocks_are_mapped_and_equal_those_in_memory(tmp_path: Path, num_samples: int, broken: int) -> None:
    folder = filled(tmp_path, pairs(num_samples, broken=broken))
    wanted = Block.join(folder.read_all(), COLUMNS)
    for found in (join(folder, tmp_path, COLUMNS), read_joined(tmp_path, COLUMNS)):
        assert found.broken == wanted.broken == [f"sample {number}" for number in range(broken)]
        for name in COLUMNS:
            assert isinstance(found[name], np.memmap)
            assert not found[name].flags.writeable
            assert np.array_equal(found[name], wanted[name])
            assert found[name].dtype == COLUMNS[name].dtype
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "numbers.npy", "rows.npy"]


def test_other_parts_may_take_the_place_of_a_stages_own(tmp_path: Path) -> None:
    parts = (np.full(number, number) for number in range(3))
    assert join(filled(tmp_path, pairs()), tmp_path, COLUMNS, numbers=parts)["numbers"].tolist() == [1, 2, 2]


@pytest.mark.parametrize("num_rows", [0, 1, 9, 10, 12_345])
def test_a_column_is_the_file_that_numpy_writes(tmp_path: Path, num_rows: int) -> None:
    whole = np.arange(2 * num_rows, dtype=np.float32).reshape(-1, 2)
    write_column(tmp_path / "parts.npy", np.array_split(whole, 5), np.zeros((0, 2), np.float32))
    np.save(tmp_path / "whole.npy", whole)
    assert (tmp_path / "parts.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_joining_again_after_a_stop_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(path: Path, content: str, *, elsewhere: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(columns_module, "write_atomically", stopped)
    with pytest.raises(KeyboardInterrupt):
        join(filled(tmp_path, pairs()), tmp_path, COLUMNS)
    with pytest.raises(UserError, match="missing or damaged"):
        read_joined(tmp_path, COLUMNS)
    monkeypatch.undo()
    assert join(filled(tmp_path, pairs()), tmp_path, COLUMNS)["numbers"].tolist() == list(range(7))


def test_a_full_disk_is_named_and_keeps_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = filled(tmp_path, pairs())
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"Cannot write .*: No space left on device.* place with --out"):
        join(folder, tmp_path, COLUMNS)
    assert folder.missing() == []
    assert not (tmp_path / "rows.npy").exists()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"broken": 3}'])
def test_a_damaged_manifest_is_no_whole_store(tmp_path: Path, content: str) -> None:
    join(filled(tmp_path, pairs()), tmp_path, COLUMNS)
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match="missing or damaged"):
        read_joined(tmp_path, COLUMNS)


def test_the_manifest_says_what_was_left_out_and_what_it_was_made_from(tmp_path: Path) -> None:
    stage = pairs(broken=1)
    join(filled(tmp_path, stage), tmp_path, COLUMNS)
    told = json.loads((tmp_path / "manifest.json").read_text())
    assert (told["broken"], told["made_from"]) == (["sample 0"], {"columns": 2})
    BlockFolder(tmp_path, stage).check_manifest()
