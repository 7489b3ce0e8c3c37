"""The engine of `data filter` and `data mix`: measure samples block by block, decide over all of them, write shards.

Measuring may go on many machines; the decision comes once all blocks are there, since duplicates and shares concern
everything at once. `filter` and `mix` say what is measured and how it is decided.
"""

import functools
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import numpy as np

from pocketclip.config import Config
from pocketclip.curate.clean import CleanConfig
from pocketclip.curate.selection import Integers, Selection
from pocketclip.curate.write import open_writing, writing_stage
from pocketclip.data.blocks import Block, BlockFolder, Engine, OpenStage, Stage, earlier_report, fill, finish_shards
from pocketclip.data.source import Sample, Source
from pocketclip.errors import BrokenItemError
from pocketclip.stages.watch import Watch

MEASURED_BLOCK = 512
"""Samples that are measured together."""
Row = TypeVar("Row")


class CurationReport(Config):
    """What was written and what was dropped; before anything is written, the numbers are those of the decision."""

    @abstractmethod
    def with_written(self, counts: Integers, num_shards: int) -> Self:
        """The report with what was really written: items may have broken since they were measured.

        Args:
            counts: (3, sources), images, captions and broken items.
            num_shards: of the written ones.
        """


Report = TypeVar("Report", bound=CurationReport)


@dataclass(frozen=True)
class Curation(Generic[Report]):
    """A choice of samples to be written as shards; `filtering` and `mixing` make one."""

    kind: str
    """`filter` or `mix`: the report is in `NAME.KIND.json`."""
    out: Path
    """Folder for the shards, made if missing; holds `NAME.blocks/` until all of them are written."""
    asked: dict[str, Any]
    """The user's settings as plain JSON values."""
    made_from: dict[str, Any]
    """Fingerprints of what is measured."""
    measuring: dict[str, tuple[Stage, OpenStage]]
    """By folder of its blocks: a stage that measures a source, and what opens it in another process."""
    decide: Callable[[Sequence[BlockFolder], Watch], tuple[Selection, Report]]
    """From what was measured, in that order.

    Raises:
        UserError: nothing is left to write.
    """
    report: type[Report]
    places: Sequence[str]
    """Sources that are selected from, as a user writes them."""
    sources: Sequence[Source]
    """The same, opened."""
    clean: CleanConfig | None = None
    """Rules for captions that make samples of several sources go together; None writes the samples as they are."""


def carry_out(
    curation: Curation[Report],
    engine: Engine,
    watch: Watch,
    *,
    name: str = "data",
    samples_per_shard: int = 1000,
    resume: bool = False,
    dry_run: bool = False,
) -> Report:
    """Write the shards `NAME-000000.tar`, ..., and the report.

    Args:
        curation: what to measure, decide and write.
        engine: what computes.
        watch: told of the samples done and of broken items.
        name: before the shard number.
        samples_per_shard: samples in a shard, the last one excepted.
        resume: go on with what an earlier call wrote, or do nothing where it was finished.
        dry_run: measure and decide, but write no shard; a call with `resume` then writes them.

    Raises:
        UserError: nothing is left to write, the folder holds other shards, or the disk is full.
    """
    blocks, told = curation.out / f"{name}.blocks", curation.out / f"{name}.{curation.kind}.json"
    asked = {**curation.asked, "samples_per_shard": samples_per_shard, **curation.made_from}
    earlier = earlier_report(told, asked, curation.report, name=name, resume=resume)
    if earlier is not None:
        return earlier
    fill_folder = functools.partial(fill, engine=engine, watch=watch, resume=resume)
    measured = [fill_folder(blocks / folder, *stages) for folder, stages in curation.measuring.items()]
    selection, report = curation.decide(measured, watch)
    if dry_run:
        return report
    file = blocks / "selection.npz"
    selection.save(file)
    settings = (file, curation.out / name, samples_per_shard, curation.asked, curation.clean)
    writing = writing_stage(curation.sources, *settings)
    written = fill_folder(blocks / "written", writing, functools.partial(open_writing, curation.places, *settings))
    report = report.with_written(written.column("counts").sum(axis=0), writing.num_blocks)
    finish_shards(told, asked, report, name=name)
    return report


def measure_each(
    source: Source, indices: Iterable[int], measure: Callable[[Sample], Row], broken: list[str]
) -> Iterator[tuple[int, Sample, Row]]:
    """Number, sample and what `measure` makes of it, of each that can be read; adds the others' errors to `broken`."""
    for index in indices:
        try:
            sample = source[index]
            row = measure(sample)
        except BrokenItemError as error:
            broken.append(str(error))
            continue
        yield index, sample, row


def join_blocks(blocks: Iterable[Block]) -> Block:
    """At least one block as a single one, in order."""
    found = list(blocks)
    arrays = {name: np.concatenate([block.arrays[name] for block in found]) for name in found[0].arrays}
    return Block(arrays, [message for block in found for message in block.broken])
