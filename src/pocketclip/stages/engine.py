"""Who computes the blocks of a stage that are not there yet: this process or its threads; machines are in `cluster`."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from pocketclip.hardware import available_cores
from pocketclip.stages.store import BlockFolder, OpenStage, Stage
from pocketclip.stages.watch import Watch

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
) -> BlockFolder:
    """All blocks of a stage, computing only those that are not there.

    Args:
        path: folder of the blocks.
        stage: what to compute.
        open_stage: opens the same stage in another process.
        engine: `compute_here`, or one from `pocketclip.stages.cluster`.
        watch: told of the samples done and of broken items.
        resume: go on in a folder that holds blocks already.

    Raises:
        UserError: see `BlockFolder.open`; anything that the stage raises.
    """
    folder = BlockFolder.open(path, stage, resume=resume)
    missing = folder.missing()
    there = sorted(set(range(stage.num_blocks)) - set(missing))
    ready = ((number, folder.read(number, "broken").broken) for number in there)
    computed = engine(open_stage, folder, missing) if missing else iter(())
    done = 0
    watch.work(stage.work, done, stage.num_samples)
    for number, broken in itertools.chain(ready, computed):
        start, stop = stage.bounds(number)
        done += stop - start
        watch.work(stage.work, done, stage.num_samples, broken)
    return folder
