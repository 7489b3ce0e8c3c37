"""What a filter keeps of a source, written as WebDataset shards."""

import functools
import hashlib
import io
import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from pocketclip.config import Config, digest
from pocketclip.curate.filter import FilterConfig, Integers, Measured, Verdict, judge, measure
from pocketclip.data import open_source
from pocketclip.data.blocks import (
    Block,
    BlockFolder,
    Engine,
    OpenStage,
    Stage,
    earlier_report,
    fill,
    finish_shards,
)
from pocketclip.data.shards import write_shards
from pocketclip.data.source import Sample, Source
from pocketclip.errors import UserError
from pocketclip.files import cannot_write, write_atomically
from pocketclip.stages.watch import Watch

MEASURED_BLOCK = 512
"""Samples that are measured together; those of `EMBED_BLOCK`, so that similarities are those of `pocketclip embed`."""


@dataclass(frozen=True)
class Kept(Source):
    """The samples of a source that stay, with the captions that stay."""

    source: Source
    verdict: Verdict
    mark: str
    """Fingerprint of the source, which takes a while to find out."""

    @property
    def name(self) -> str:  # type: ignore[override] # made up, and nobody sets it
        """As the source is called."""
        return f"{self.source.name} (filtered)"

    def __len__(self) -> int:
        return len(self.verdict.indices)

    def __getitem__(self, index: int) -> Sample:
        sample = self.source[int(self.verdict.indices[index])]
        return replace(sample, captions=self._staying(index, sample.captions))

    def captions(self, index: int) -> tuple[str, ...]:
        """One sample's captions that stay."""
        return self._staying(index, self.source.captions(int(self.verdict.indices[index])))

    def _staying(self, index: int, captions: tuple[str, ...]) -> tuple[str, ...]:
        mask = self.verdict.captions[self._edges[index] : self._edges[index + 1]]
        return tuple(text for text, stays in zip(captions, mask, strict=True) if stays)

    @functools.cached_property
    def _edges(self) -> Integers:
        """Where each sample's captions begin, and behind them the end of the last."""
        return np.concatenate([[0], np.cumsum(self.verdict.counts)])

    def part(self, start: int, stop: int) -> Self:
        """Samples `start` to `stop` of these."""
        indices, counts = self.verdict.indices[start:stop], self.verdict.counts[start:stop]
        captions = self.verdict.captions[self._edges[start] : self._edges[stop]]
        return replace(self, verdict=Verdict(indices, counts, captions))

    def fingerprint(self) -> str:
        """From the source's own and the verdict."""
        return digest([self.mark, self.verdict.indices.tolist(), self.verdict.captions.tolist()])


class FilterReport(Config):
    """What a filter kept and dropped."""

    num_images: int
    """Readable ones of the source."""
    num_captions: int
    num_kept_images: int
    num_kept_captions: int
    num_broken: int
    dropped_images: dict[str, int]
    """By the first rule that dropped them; `no_caption_left` counts those that rules about captions left bare."""
    dropped_captions: dict[str, int]
    """By the first rule that dropped them; captions of an image that a rule dropped are not counted."""
    num_shards: int


def open_measuring(source: str) -> Stage:
    """The stage that measures a source for rules which need no model."""
    opened = open_source(source, place="SOURCE")
    made_from = {"source": opened.fingerprint()}
    return Stage("measuring images", made_from, len(opened), MEASURED_BLOCK, functools.partial(measure, opened))


def open_writing(source: str, verdict: Path, out: Path, name: str, samples_per_shard: int) -> Stage:
    """The stage that writes shards: a block is a shard, and its arrays say how many samples it holds."""
    opened = open_source(source, place="SOURCE")
    loaded, rules = _load_verdict(verdict)
    kept = Kept(opened, loaded, opened.fingerprint())

    def compute(start: int, stop: int) -> Block:
        return _write_shard(kept.part(start, stop), out / f"{name}-{start // samples_per_shard:06d}.tar")

    made_from = {
        "source": kept.mark,
        "rules": rules,
        "verdict": hashlib.sha256(verdict.read_bytes()).hexdigest()[:16],
        "name": name,
    }
    return Stage("writing shards", made_from, len(kept), samples_per_shard, compute)


def _write_shard(part: Kept, path: Path) -> Block:
    """One shard, written in a folder of its own and then moved: two workers may write the same one."""
    try:
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        state = write_shards(part, folder, samples_per_shard=len(part))
        (folder / "data-000000.tar").replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Block({"num_written": np.array([state.num_written])}, state.broken)


def write_filtered(
    measuring: Stage,
    open_stage: OpenStage,
    source: str,
    rules: FilterConfig,
    out: Path,
    engine: Engine,
    watch: Watch,
    *,
    name: str = "data",
    samples_per_shard: int = 1000,
    resume: bool = False,
) -> FilterReport:
    """Write what the rules keep as `out/NAME-000000.tar`, ..., and the counts as `out/NAME.filter.json`.

    Args:
        measuring: the opened stage that gives the arrays of `Measured`.
        open_stage: opens it in another process.
        source: as a user writes it.
        rules: what to drop.
        out: made if missing; holds `NAME.blocks/` until all shards are written.
        engine: what computes.
        watch: told of the samples done and of broken items.
        name: before the shard number.
        samples_per_shard: samples in a shard, the last one excepted.
        resume: go on with what an earlier call wrote, or do nothing where it was finished.

    Raises:
        UserError: nothing is kept, `out` holds other shards, or the disk is full.
    """
    blocks, told = out / f"{name}.blocks", out / f"{name}.filter.json"
    asked = {"rules": rules.model_dump(mode="json"), "samples_per_shard": samples_per_shard, **measuring.made_from}
    earlier = earlier_report(told, asked, FilterReport, name=name, resume=resume)
    if earlier is not None:
        return earlier
    measured_folder = fill(blocks / "measured", measuring, open_stage, engine, watch, resume=resume)
    measured = Measured.join(measured_folder.read_all())
    verdict = judge(measured, rules)
    if len(verdict.indices) == 0:
        counts = json.dumps({**verdict.dropped_images, **verdict.dropped_captions})
        raise UserError(f"{source}: the rules keep no image (dropped: {counts}); use milder ones with --resume.")
    write_atomically(blocks / "verdict.npz", _save_verdict(verdict, rules))
    write = functools.partial(open_writing, source, blocks / "verdict.npz", out, name, samples_per_shard)
    written = fill(blocks / "written", write(), write, engine, watch, resume=resume)
    report = _report(measured_folder, measured, verdict, written)
    finish_shards(told, asked, report, name=name)
    return report


def _report(folder: BlockFolder, measured: Measured, verdict: Verdict, written: BlockFolder) -> FilterReport:
    broken = [message for block in folder.read_all("indices") for message in block.broken]
    return FilterReport(
        num_images=len(measured.indices),
        num_captions=len(measured.words),
        num_kept_images=int(written.column("num_written").sum()),
        num_kept_captions=int(verdict.captions.sum()),
        num_broken=len(broken),
        dropped_images=verdict.dropped_images,
        dropped_captions=verdict.dropped_captions,
        num_shards=written.stage.num_blocks,
    )


def _save_verdict(verdict: Verdict, rules: FilterConfig) -> bytes:
    """Verdict and rules as the bytes of an .npz file, the same for the same verdict."""
    buffer = io.BytesIO()
    told = np.frombuffer(json.dumps(rules.model_dump(mode="json")).encode(), np.uint8)
    arrays = {"indices": verdict.indices, "counts": verdict.counts, "captions": verdict.captions}
    np.savez(buffer, allow_pickle=False, rules=told, **arrays)
    return buffer.getvalue()


def _load_verdict(file: Path) -> tuple[Verdict, dict[str, Any]]:
    with np.load(file, allow_pickle=False) as arrays:
        verdict = Verdict(arrays["indices"], arrays["counts"], arrays["captions"])
        return verdict, json.loads(arrays["rules"].tobytes())
