"""The engine of `data filter` and `data mix`: measure samples block by block, decide over all of them, write shards.

Measuring may go on many machines; the decision comes once all blocks are there, since duplicates and shares concern
everything at once. `filter` and `mix` say what is measured and how it is decided.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pocketclip.config import Config
from pocketclip.curate.clean import CleanConfig
from pocketclip.curate.selection import Integers, Selection, open_writing, opened
from pocketclip.data.labels import write_class_names
from pocketclip.data.shards import BrokenOf, earlier_report, finish_shards
from pocketclip.data.source import Sample, Source, broken_item, refuse_choices
from pocketclip.errors import BrokenItemError
from pocketclip.stages.engine import Engine, fill
from pocketclip.stages.store import REFUSED, Block, OpenStage, Stage
from pocketclip.stages.watch import Watch

MEASURED_BLOCK = 512
"""Samples that are measured together."""
Signal = TypeVar("Signal")
Report = TypeVar("Report", bound=Config)
Tell = Callable[[Integers, int], Report]
"""Makes the report, given (3, sources) images, captions and broken items as written, and the number of shards."""


@dataclass(frozen=True)
class Curation(Generic[Report]):
    """A choice of samples to be written as shards; `filtering` and `mixing` make one."""

    kind: str
    """`filter` or `mix`: the report is in `NAME.KIND.json`."""
    report: type[Report]
    out: Path
    """Folder for the shards, made if missing; holds `NAME.blocks/` until all of them are written."""
    asked: dict[str, Any]
    """The user's settings as plain JSON values."""
    made_from: dict[str, Any]
    """Fingerprints of what is measured."""
    measuring: dict[str, tuple[Stage, OpenStage]]
    """By folder of its blocks: a stage that measures a source, and what opens it in another process."""
    decide: Callable[[Sequence[Block], Watch], tuple[Selection, Integers, Tell[Report]]]
    """From what was measured: what is written, the counts that writing it will give, and what makes the report of them.

    Raises UserError where nothing is left to write.
    """
    places: Sequence[str]
    """Sources that are selected from, as a user writes them."""
    sources: Sequence[Source | str]
    """The same, opened where they are."""
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

    With `resume` it goes on with what an earlier call wrote, or does nothing where that was finished. A `dry_run`
    measures and decides, but writes no shard; a call with `resume` then writes them.
    """
    blocks, told = curation.out / f"{name}.blocks", curation.out / f"{name}.{curation.kind}.json"
    asked = {**curation.asked, "samples_per_shard": samples_per_shard, **curation.made_from}
    earlier = earlier_report(told, asked, curation.report, watch, name=name, resume=resume)
    if earlier is not None:
        return earlier
    sources = [opened(source) for source in curation.sources]
    refuse_choices(*sources)
    resume = resume or any(blocks.glob(f"*/{REFUSED}"))  # of any of the folders below
    fill_folder = functools.partial(fill, engine=engine, watch=watch, resume=resume)
    folders = [fill_folder(blocks / folder, *stages) for folder, stages in curation.measuring.items()]
    measured = [Block.join(folder.read_all()) for folder in folders]
    selection, planned, tell = curation.decide(measured, watch)
    if dry_run:
        return tell(planned, 0)
    file = blocks / "selection.npz"
    selection.save(file)
    settings = (file, curation.out / name, samples_per_shard, curation.asked, curation.clean)
    if curation.clean is None:  # labels stay
        write_class_names(curation.out, sources[0], name)
    writing = open_writing(sources, *settings)
    written = fill_folder(blocks / "written", writing, functools.partial(open_writing, curation.places, *settings))
    report = tell(written.column("counts").sum(axis=0), writing.num_blocks)
    done = [*folders, written]
    broken = (BrokenOf(one.stage.work, one.stage.num_samples, one.broken()) for one in done)
    finish_shards(told, asked, report, broken, name=name)
    return report


def measure_each(
    source: Source, indices: Iterable[int], measure: Callable[..., Signal], broken: list[str]
) -> Iterator[tuple[int, Sample, Signal]]:
    """Number, sample and what `measure` says of its picture, of each that can be read.

    `measure` takes the encoded picture and its `place`; messages about samples that cannot be read go to `broken`.
    """
    for index in indices:
        try:
            sample = source[index]
            with broken_item(functools.partial(source.place, index)):
                signal = measure(sample.image, place=sample.place)
        except BrokenItemError as error:
            broken.append(str(error))
        else:
            yield index, sample, signal
