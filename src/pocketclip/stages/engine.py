"""Who computes the blocks of a stage that are not there yet: this process or its threads; machines are in `cluster`."""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pocketclip.errors import TooManyBrokenError
from pocketclip.files import write_atomically
from pocketclip.hardware import available_cores
from pocketclip.stages.store import REFUSED, BlockFolder, OpenStage, Stage
from pocketclip.stages.watch import Watch

Given = TypeVar("Given")
Result = TypeVar("Result")
Engine = Callable[[OpenStage, BlockFolder, Sequence[int]], Iterator[tuple[int, list[str]]]]
"""Computes and writes blocks, in any order; gives the number and the broken items of each that is written."""


def compute_here(open_stage: OpenStage, folder: BlockFolder, numbers: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
    """The engine `local`: one block after the other in this process, where the folder's stage is open already."""
    return ((number, folder.compute(number)) for number in numbers)


def compute_in_threads(
    open_stage: OpenStage, folder: BlockFolder, numbers: Sequence[int]
) -> Iterator[tuple[int, list[str]]]:
    """As `compute_here`, several blocks at a time: for stages that mostly decode pictures, which frees the others."""
    num_threads = available_cores()
    pool = ThreadPoolExecutor(num_threads)
    return in_order(pool, lambda number: (number, folder.compute(number)), numbers, ahead=num_threads)


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[Given], Result], items: Iterable[Given], *, ahead: int
) -> Generator[Result, None, None]:
    """A function of each item, in order, by a pool that works `ahead` so many items and is closed in the end."""
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def fill(path: Path, stage: Stage, open_stage: OpenStage, engine: Engine, watch: Watch, *, resume: bool) -> BlockFolder:
    """All blocks of a stage in the folder `path`, computing only those that are not there; see `BlockFolder.open`.

    `open_stage` opens the same stage in another process, for the engine; `watch` is told of the samples done and of
    broken items.
    """
    folder = BlockFolder.open(path, stage, resume=resume)
    missing = folder.missing()
    there = sorted(set(range(stage.num_blocks)) - set(missing))
    ready = ((number, folder.read(number, "broken").broken) for number in there)
    computed = engine(open_stage, folder, missing) if missing else iter(())
    done = 0
    if there and missing:
        watch.note(f"{stage.work}: going on with {len(there):,} of {stage.num_blocks:,} blocks of an unfinished run.")
    for line in stage.remarks:
        watch.note(line)
    watch.work(stage.work, done, stage.num_samples)
    try:
        for number, broken in itertools.chain(ready, computed):
            done += len(range(*stage.bounds(number)))
            watch.work(stage.work, done, stage.num_samples, broken)
    except TooManyBrokenError:
        write_atomically(path / REFUSED, "", elsewhere=stage.elsewhere)
        raise
    return folder
