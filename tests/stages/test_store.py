"""Stages over a source: blocks that depend on nothing but their bounds, kept until all are there."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pocketclip.errors import UserError
from pocketclip.stages.engine import compute_here, fill
from pocketclip.stages.store import Block, BlockFolder, OpenStage, Stage, first_difference
from pocketclip.stages.watch import BrokenItems, Watch


def squares(num_samples: int = 7, block_size: int = 3, **made_from: object) -> Stage:
    """Each sample's square; samples that divide by 4 are broken."""

    def compute(start: int, stop: int) -> Block:
        numbers = np.arange(start, stop)
        kept = numbers[numbers % 4 > 0]
        return Block({"squares": kept**2, "numbers": kept}, [f"sample {n}" for n in numbers if n % 4 == 0])

    return Stage("squaring", {"power": 2, **made_from}, num_samples, block_size, compute)


class Progress(Watch):
    def __init__(self, stop_at: int | None = None) -> None:
        self.told: list[tuple[str, int, int]] = []
        self.broken: list[str] = []
        self.notes: list[str] = []
        self.stop_at = stop_at

    def work(self, name: str, done: int, total: int, broken: Sequence[str] = ()) -> None:
        self.told.append((name, done, total))
        self.broken += broken
        if done == self.stop_at:
            raise KeyboardInterrupt

    def note(self, message: str) -> None:
        self.notes.append(message)


def counting(computed: list[int]) -> object:
    """The engine `local`, telling which blocks it computes."""

    def engine(open_stage: OpenStage, folder: BlockFolder, numbers: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
        for number, broken in compute_here(open_stage, folder, numbers):
            computed.append(number)
            yield number, broken

    return engine


def run(path: Path, stage: Stage | None = None, *, resume: bool = False, progress: Progress | None = None) -> list[int]:
    """Fill a folder; returns the blocks that had to be computed."""
    computed: list[int] = []
    chosen = stage or squares()
    fill(path, chosen, lambda: chosen, counting(computed), progress or Progress(), resume=resume)  # type: ignore[arg-type]
    return computed


@pytest.mark.parametrize(("num_samples", "block_size"), [(7, 3), (6, 3), (7, 100), (1, 1), (0, 3)])
def test_joined_blocks_are_what_one_pass_gives(tmp_path: Path, num_samples: int, block_size: int) -> None:
    stage = squares(num_samples, block_size)
    progress = Progress()
    folder = fill(tmp_path, stage, lambda: stage, compute_here, progress, resume=False)
    whole = stage.compute(0, num_samples)
    assert folder.column("squares").tolist() == whole.arrays["squares"].tolist()
    assert [message for block in folder.read_all() for message in block.broken] == whole.broken == progress.broken
    assert progress.told[0] == ("squaring", 0, num_samples)
    assert progress.told[-1] == ("squaring", num_samples, num_samples)


def test_a_stopped_run_computes_only_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=Progress(stop_at=3))
    progress = Progress()
    assert run(tmp_path, resume=True, progress=progress) == [1, 2]
    assert progress.told[-1] == ("squaring", 7, 7)
    assert progress.broken == ["sample 0", "sample 4"]  # those of the finished block are told again
    assert run(tmp_path, resume=True) == []


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "half"])
def test_a_damaged_block_is_computed_again(tmp_path: Path, damage: str) -> None:
    run(tmp_path)
    file = tmp_path / "000001.npz"
    whole = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(whole[: {"empty": 0, "cut": len(whole) - 1, "half": len(whole) // 2}[damage]])
    assert run(tmp_path, resume=True) == [1]
    assert file.read_bytes() == whole


@pytest.mark.parametrize("further", [{}, {"go_on": "start again"}])
def test_a_block_whose_content_was_changed_is_named(tmp_path: Path, further: dict[str, str]) -> None:
    stage, cure = replace(squares(), **further), further.get("go_on", "go on with --resume")
    folder = fill(tmp_path, stage, lambda: stage, compute_here, Progress(), resume=False)
    file = tmp_path / "000001.npz"
    data = bytearray(file.read_bytes())
    place = data.index(np.arange(3, 6)[[0, 2]].astype(np.int64).tobytes())  # the array `numbers` itself
    data[place] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match=rf"000001\.npz: damaged .*delete the file and {cure}\."):
        folder.column("numbers")


def test_pickled_objects_are_neither_written_nor_read(tmp_path: Path) -> None:
    folder = BlockFolder.open(tmp_path, squares(), resume=False)
    strange = Block({"objects": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(ValueError, match="pickle"):
        folder.write(0, strange)
    np.savez(folder.file(0), broken=np.frombuffer(b"[]", np.uint8), **strange.arrays)
    with pytest.raises(UserError, match="pickle"):
        folder.read(0)


def test_writing_a_block_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = BlockFolder.open(tmp_path, squares(), resume=False)
    folder.compute(0)
    first = folder.file(0).read_bytes()
    os.utime(folder.file(0), (0, 0))
    folder.compute(0)
    assert folder.file(0).read_bytes() == first


def test_the_same_command_goes_on_with_an_unfinished_run_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=Progress(stop_at=6))
    progress = Progress()
    assert run(tmp_path, progress=progress) == [2]
    assert progress.notes == ["squaring: going on with 2 of 3 blocks of an unfinished run."]
    assert run(tmp_path, progress=Progress(), resume=True) == []
    with pytest.raises(UserError, match=r"made_from\.power is 2 there and 3 here"):
        run(tmp_path, squares(power=3))


@pytest.mark.parametrize("content", ["", "{", '{"made_from": "something else"}'])
def test_a_start_without_any_block_is_begun_again(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    (tmp_path / ".000000.npz.x8rq_0az").write_bytes(b"PK")
    assert run(tmp_path) == [0, 1, 2]


def test_a_run_that_stopped_for_its_broken_items_may_be_called_again(tmp_path: Path) -> None:
    def called(share: float, stage: Stage | None = None) -> str:
        chosen, computed = stage or squares(), list[int]()
        watch = BrokenItems(chosen.num_samples, share)
        try:
            fill(tmp_path, chosen, lambda: chosen, counting(computed), watch, resume=False)  # type: ignore[arg-type]
        except UserError as error:
            return str(error)
        return f"computed {computed}"

    verdicts = [called(0.0), called(0.0)]
    assert verdicts[0].startswith("1 of 7 items are broken")
    assert verdicts[1] == verdicts[0]
    assert "made_from.power is 2 there and 3 here" in called(0.5, squares(power=3))
    assert called(0.5) == "computed [1, 2]"
    assert called(0.5) == "computed []"


@pytest.mark.parametrize(
    ("stage", "difference"),
    [
        (squares(8), "num_samples is 7 there and 8 here"),
        (squares(block_size=2), "block_size is 3 there and 2 here"),
        (squares(power=3), "made_from.power is 2 there and 3 here"),
        (squares(model={"tower": "x"}), 'made_from.model is null there and {"tower": "x"} here'),
    ],
)
def test_blocks_of_other_inputs_are_refused_with_the_first_difference(
    tmp_path: Path, stage: Stage, difference: str
) -> None:
    run(tmp_path)
    with pytest.raises(UserError) as caught:
        run(tmp_path, stage, resume=True)
    assert difference in str(caught.value)
    assert str(tmp_path / "manifest.json") in str(caught.value)


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json: damaged"):
        run(tmp_path, resume=True)


def test_tuples_in_a_manifest_are_what_json_makes_of_them(tmp_path: Path) -> None:
    run(tmp_path, squares(scale=(0.5, 1.0)))
    assert run(tmp_path, squares(scale=(0.5, 1.0)), resume=True) == []
    assert json.loads((tmp_path / "manifest.json").read_text())["made_from"]["scale"] == [0.5, 1.0]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write"):
        run(tmp_path / "file" / "blocks")


def test_a_stage_that_fails_leaves_the_blocks_before_it(tmp_path: Path) -> None:
    def fail(start: int, stop: int) -> Block:
        if start >= 3:
            raise UserError("no memory left")
        return squares().compute(start, stop)

    with pytest.raises(UserError, match="no memory left"):
        run(tmp_path, replace(squares(), compute=fail))
    assert run(tmp_path, resume=True) == [1, 2]


@pytest.mark.parametrize(
    ("there", "here", "found"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": {"b": [1]}}, {"a": {"b": [2]}}, "a.b is [1] there and [2] here"),
        ({"a": 1, "b": 1}, {"a": 2, "b": 2}, "a is 1 there and 2 here"),
        ({}, {"a": 1}, "a is null there and 1 here"),
    ],
)
def test_the_first_difference_names_the_key_and_both_values(there: object, here: object, found: str | None) -> None:
    assert first_difference(there, here) == found
