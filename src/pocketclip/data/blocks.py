"""Offline stages: a source worked through block by block, each block kept in a folder until all of them are there.

A block is some consecutive samples. What comes of it depends on what the stage was made from and on the block's
bounds, so any process on any machine may work on it, a second time too. A folder of blocks is `manifest.json`, which
says what they were made from, and `000012.npz` for block 12.
"""

import io
import itertools
import json
import shutil
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from pocketclip.config import Config
from pocketclip.errors import UserError
from pocketclip.files import cannot_write, write_atomically
from pocketclip.hardware import available_cores
from pocketclip.stages.watch import Watch

Report = TypeVar("Report", bound=Config)

FORMAT = 1  # raise when the same inputs would give other blocks
MAX_ATTEMPTS = 3
"""Worker processes that may die over one block before the whole stage stops."""


@dataclass(frozen=True)
class Block:
    """What a stage made of some consecutive samples."""

    arrays: dict[str, npt.NDArray[Any]]
    broken: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Stage:
    """One pass over the samples of a source."""

    work: str
    """What is done, for people: `encoding images`."""
    made_from: dict[str, Any]
    """Everything the blocks depend on, as plain JSON values: source, model, settings, versions."""
    num_samples: int
    block_size: int
    compute: Callable[[int, int], Block]
    """From the first sample of a block and the one behind its last."""
    on_gpu: bool = False

    @property
    def num_blocks(self) -> int:
        """Blocks in the source; the last may be shorter."""
        return -(-self.num_samples // self.block_size)

    def bounds(self, number: int) -> tuple[int, int]:
        """First sample of a block, and the one behind its last."""
        start = number * self.block_size
        return start, min(start + self.block_size, self.num_samples)

    def compute_from(self, start: int) -> Iterator[tuple[int, Block]]:
        """The blocks from sample `start` on, each with the number of samples behind it."""
        for number in range(start // self.block_size, self.num_blocks):
            bounds = self.bounds(number)
            yield bounds[1], self.compute(*bounds)


OpenStage = Callable[[], Stage]
"""Opens a stage in another process; it must survive pickling, as a `functools.partial` of a function does."""


@dataclass(frozen=True)
class BlockFolder:
    """The blocks of one stage on disk."""

    path: Path
    stage: Stage

    @classmethod
    def open(cls, path: Path, stage: Stage, *, resume: bool) -> Self:
        """Make the folder, or go on in one.

        Raises:
            UserError: it holds the blocks of other inputs, or blocks and `resume` is off, or cannot be written.
        """
        folder, manifest = cls(path, stage), path / "manifest.json"
        try:
            path.mkdir(parents=True, exist_ok=True)
            for left in path.glob("*.attempts"):
                left.unlink()
        except OSError as error:
            raise cannot_write(path, error) from error
        if not manifest.is_file():
            write_atomically(manifest, json.dumps(folder.manifest(), indent=2) + "\n")
        elif not resume:
            raise UserError(
                f"{path}: holds blocks of an unfinished run. Go on with --resume, choose another --out, "
                "or delete that folder."
            )
        folder.check_manifest(manifest)
        return folder

    def manifest(self) -> dict[str, Any]:
        """What `manifest.json` holds, as it is read back: tuples are lists."""
        stage = self.stage
        values = {
            "format": FORMAT,
            "num_samples": stage.num_samples,
            "block_size": stage.block_size,
            "made_from": stage.made_from,
        }
        return dict(json.loads(json.dumps(values)))

    def check_manifest(self, file: Path) -> None:
        """See that `file` describes this stage.

        Raises:
            UserError: it does not; the message names the first difference.
        """
        try:
            there = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: damaged ({error}); delete {file.parent} and start anew.") from error
        found = first_difference(there, self.manifest())
        if found is not None:
            raise UserError(f"{file}: {found}. Choose another --out, or delete {file.parent} to start anew.")

    def file(self, number: int) -> Path:
        """Where a block is, or will be."""
        return self.path / f"{number:06d}.npz"

    def missing(self) -> list[int]:
        """Numbers of the blocks that are not there, or cut off."""
        return [number for number in range(self.stage.num_blocks) if not _is_whole(self.file(number))]

    def write(self, number: int, block: Block) -> None:
        """Write a block whole or not at all; once more gives the same bytes.

        Raises:
            UserError: the disk is full.
        """
        buffer = io.BytesIO()
        broken = np.frombuffer(json.dumps(block.broken).encode(), np.uint8)
        np.savez(buffer, allow_pickle=False, broken=broken, **block.arrays)
        write_atomically(self.file(number), buffer.getvalue())

    def compute(self, number: int) -> list[str]:
        """Compute a block and write it; returns its broken items."""
        block = self.stage.compute(*self.stage.bounds(number))
        self.write(number, block)
        return block.broken

    def read(self, number: int, *names: str) -> Block:
        """A block, or the named ones of its arrays.

        Raises:
            UserError: it is damaged.
        """
        file = self.file(number)
        try:
            with np.load(file, allow_pickle=False) as arrays:
                broken = json.loads(arrays["broken"].tobytes())
                wanted = names or [name for name in arrays.files if name != "broken"]
                return Block({name: arrays[name] for name in wanted}, broken)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{file}: damaged ({error}); delete the file and go on with --resume.") from error

    def read_all(self, *names: str) -> Iterator[Block]:
        """The blocks in order; see `read`."""
        return (self.read(number, *names) for number in range(self.stage.num_blocks))

    def column(self, name: str) -> npt.NDArray[Any]:
        """One array of all blocks, joined; an empty one where there are no blocks."""
        parts = [block.arrays[name] for block in self.read_all(name)]
        filled = [part for part in parts if len(part)]  # a block without a row does not know its width
        return np.concatenate(filled) if filled else np.zeros(0, np.int64)

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


def _is_whole(file: Path) -> bool:
    """Whether a block is there to its end: the list of an archive's members comes last."""
    try:
        with zipfile.ZipFile(file) as archive:
            return "broken.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def first_difference(there: Any, now: Any, key: str = "") -> str | None:
    """The first key in which two JSON values differ, with both values; None where they are equal."""
    if isinstance(there, dict) and isinstance(now, dict):
        for name in sorted(there.keys() | now.keys()):
            found = first_difference(there.get(name), now.get(name), f"{key}.{name}" if key else name)
            if found is not None:
                return found
        return None
    return None if there == now else f"{key} is {json.dumps(there)} there and {json.dumps(now)} here"


def earlier_report(told: Path, asked: dict[str, Any], kind: type[Report], *, name: str, resume: bool) -> Report | None:
    """The report of an earlier call that wrote shards and asked for the same; None where they are still to be written.

    Args:
        told: the file that says what was asked, and under `report` what came of it.
        asked: what is asked now.
        kind: of the report.
        name: before the shards' numbers.
        resume: whether the user goes on with an earlier call.

    Raises:
        UserError: the user does not, the file is damaged, something else was asked, or the shards are others' work.
    """
    out = told.parent
    if not told.is_file():
        if not (out / f"{name}.blocks").is_dir() and any(out.glob(f"{name}-*.tar")):
            raise UserError(f"{out}: holds shards '{name}' that we did not write; choose another --out or --name.")
        return None
    if not resume:
        raise UserError(f"{told}: its shards are here already; choose another --out or --name.")
    try:
        values = json.loads(told.read_text(encoding="utf-8"))
        report = kind.parse(values.pop("report"), place=str(told))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{told}: damaged ({error}); choose another --out or --name.") from error
    found = first_difference(values, json.loads(json.dumps(asked)))
    if found is not None:
        raise UserError(f"{told}: {found}. Choose another --out or --name.")
    return report


def finish_shards(told: Path, asked: dict[str, Any], report: Config, *, name: str) -> None:
    """Write what `earlier_report` reads, and remove the blocks and what killed workers left; see there."""
    values = {**asked, "report": report.model_dump()}
    write_atomically(told, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    shutil.rmtree(told.parent / f"{name}.blocks", ignore_errors=True)
    for left in told.parent.glob(f".{name}-*.tar.*"):
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


Engine = Callable[[OpenStage, BlockFolder, Sequence[int]], Iterator[tuple[int, list[str]]]]
"""Computes and writes blocks, in any order; gives the number and the broken items of each that is written."""


def compute_here(open_stage: OpenStage, folder: BlockFolder, numbers: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
    """The engine `local`: one block after the other in this process."""
    del open_stage  # the folder has it open
    return ((number, folder.compute(number)) for number in numbers)


def compute_in_threads(
    open_stage: OpenStage, folder: BlockFolder, numbers: Sequence[int]
) -> Iterator[tuple[int, list[str]]]:
    """As `compute_here`, several blocks at a time: for stages that mostly decode pictures, which frees the others."""
    del open_stage
    num_threads = available_cores()
    pending: deque[tuple[int, Future[list[str]]]] = deque()
    pool = ThreadPoolExecutor(num_threads)
    try:
        for number in numbers:
            pending.append((number, pool.submit(folder.compute, number)))
            if len(pending) > num_threads:
                first, future = pending.popleft()
                yield first, future.result()
        for first, future in pending:
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def fill(
    path: Path,
    stage: Stage,
    open_stage: OpenStage,
    engine: Engine,
    watch: Watch,
    *,
    resume: bool,
    first: int = 0,
) -> BlockFolder:
    """All blocks of a stage, computing only those that are not there.

    Args:
        path: folder of the blocks.
        stage: what to compute.
        open_stage: opens the same stage in another process.
        engine: `compute_here`, or one from `pocketclip.data.cluster`.
        watch: told of the samples done and of broken items.
        resume: go on in a folder that holds blocks already.
        first: block to begin with; those before it are left out.

    Raises:
        UserError: see `BlockFolder.open`; anything that the stage raises.
    """
    folder = BlockFolder.open(path, stage, resume=resume)
    missing = [number for number in folder.missing() if number >= first]
    there = sorted(set(range(first, stage.num_blocks)) - set(missing))
    ready = ((number, folder.read(number, "broken").broken) for number in there)
    computed = engine(open_stage, folder, missing) if missing else iter(())
    done = first * stage.block_size
    watch.work(stage.work, done, stage.num_samples)
    for number, broken in itertools.chain(ready, computed):
        start, stop = stage.bounds(number)
        done += stop - start
        watch.work(stage.work, done, stage.num_samples, broken)
    return folder
