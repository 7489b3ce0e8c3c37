"""A mix written as WebDataset shards, with a manifest that says what became of every source."""

import contextlib
import functools
import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pocketclip.config import Config
from pocketclip.curate.clean import REASONS, CleanConfig, clean_image
from pocketclip.curate.mix import Measured, MixConfig, MixPart, Plan, hashing_stage, make_plan, open_hashing
from pocketclip.data import open_source
from pocketclip.data.blocks import Block, BlockFolder, Engine, Stage, earlier_report, fill, finish_shards
from pocketclip.data.shards import add_sample, new_shard
from pocketclip.data.source import Sample, Source
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.files import write_atomically
from pocketclip.stages.watch import Watch


class NearHeldOut(Config):
    """A picture that was left out because a held-out one is nearly the same."""

    key: str
    near: str
    """Held-out source and the key there."""
    distance: int
    """Bits of 64 in which the hashes differ."""


class MixedSource(Config):
    """What became of one source; broken, held out, without caption, duplicates and images add up to those taken."""

    source: str
    weight: float
    key_prefix: str
    """Of its samples in the shards."""
    num_items: int
    """In the source."""
    num_taken: int
    """Drawn by the weight."""
    num_broken: int
    num_held_out: int
    """Near a picture of a held-out source."""
    num_without_caption: int
    """No caption was there, or none was left."""
    num_duplicates: int
    """Another picture stands for these."""
    num_images: int
    """Written."""
    num_captions: int
    """Written, those that came from duplicates included."""
    num_captions_read: int
    num_captions_changed: int
    dropped_captions: dict[str, int]
    """By what cleaning found; captions of pictures that were dropped count too."""
    near_held_out: list[NearHeldOut]


class MixReport(Config):
    """What was mixed; where nothing was written yet, the numbers are those of the plan."""

    sources: list[MixedSource]
    num_images: int
    num_captions: int
    num_shards: int
    """0 where nothing was written."""


def open_writing(parts: Sequence[str], plan_file: Path, out: Path, name: str, rules: CleanConfig, size: int) -> Stage:
    """`writing_stage` of sources that are opened for it."""
    return writing_stage([open_source(part, place="SOURCE") for part in parts], plan_file, out, name, rules, size)


def writing_stage(
    sources: Sequence[Source], plan_file: Path, out: Path, name: str, rules: CleanConfig, size: int
) -> Stage:
    """The stage that writes shards of `size` samples: a block is a shard, its arrays are counts by source."""
    plan = load_plan(plan_file)

    def compute(start: int, stop: int) -> Block:
        return _write_shard(sources, plan, range(start, stop), out / f"{name}-{start // size:06d}.tar", rules)

    made_from = {
        "sources": [source.fingerprint() for source in sources],
        "plan": hashlib.sha256(plan_file.read_bytes()).hexdigest()[:16],
        "captions": rules.model_dump(mode="json"),
        "name": name,
    }
    return Stage("writing shards", made_from, len(plan.sources), size, compute)


def _write_shard(sources: Sequence[Source], plan: Plan, numbers: range, path: Path, rules: CleanConfig) -> Block:
    """Write some samples of the plan; gives images, captions and broken items by source."""
    counts, broken = np.zeros((3, len(sources)), np.int64), []
    with new_shard(path) as archive:
        for number in numbers:
            owner = int(plan.sources[number])
            try:
                sample = _written(sources, plan, number, rules)
                add_sample(archive, sample, {"source": sources[owner].name})
            except BrokenItemError as error:
                broken.append(str(error))
                counts[2, owner] += 1
                continue
            counts[:2, owner] += (1, len(sample.captions))
    return Block({"images": counts[:1], "captions": counts[1:2], "num_broken": counts[2:]}, broken)


def _written(sources: Sequence[Source], plan: Plan, number: int, rules: CleanConfig) -> Sample:
    """A sample as it goes into a shard: labels of several sources would contradict each other, so it has none."""
    owner = int(plan.sources[number])
    sample = sources[owner][int(plan.indices[number])]
    captions = list(sample.captions)
    for other, index in plan.joined_to(number):
        with contextlib.suppress(BrokenItemError):
            captions += sources[other].captions(index)
    return replace(sample, key=f"{key_prefix(owner)}{sample.key}", captions=clean_image(captions, rules), label=None)


def key_prefix(number: int) -> str:
    """Before the keys of a source's samples, which else could be those of another's."""
    return f"{number}-"


def write_mixed(
    config: MixConfig,
    out: Path,
    engine: Engine,
    watch: Watch,
    *,
    name: str = "data",
    samples_per_shard: int = 1000,
    resume: bool = False,
    dry_run: bool = False,
) -> MixReport:
    """Write a mix as `out/NAME-000000.tar`, ..., and what became of each source as `out/NAME.mix.json`.

    Args:
        config: what to mix.
        out: made if missing; holds `NAME.blocks/` until all shards are written.
        engine: what computes.
        watch: told of the samples done and of broken items.
        name: before the shard number.
        samples_per_shard: samples in a shard, the last one excepted.
        resume: go on with what an earlier call wrote, or do nothing where it was finished.
        dry_run: read and decide, but write no shard; a call with `resume` then writes them.

    Raises:
        UserError: nothing is left to write, `out` holds other shards, or the disk is full.
    """
    sides = [config.parts, tuple(MixPart(source=text) for text in config.without)]
    opened = [[open_source(part.source, place="SOURCE") for part in parts] for parts in sides]
    stages = [
        [hashing_stage(source, part, config.seed, config.captions) for source, part in zip(*side, strict=True)]
        for side in zip(opened, sides, strict=True)
    ]
    blocks, told = out / f"{name}.blocks", out / f"{name}.mix.json"
    asked = {
        "mix": config.model_dump(mode="json"),
        "samples_per_shard": samples_per_shard,
        "fingerprints": [stage.made_from["source"] for side in stages for stage in side],
    }
    earlier = earlier_report(told, asked, MixReport, name=name, resume=resume)
    if earlier is not None:
        return earlier

    def hashed(number: int, side: int) -> Measured:
        path = blocks / f"{('source', 'without')[side]}-{number}"
        again = functools.partial(open_hashing, sides[side][number], config.seed, config.captions)
        return Measured.load(fill(path, stages[side][number], again, engine, watch, resume=resume))

    measured, held = ([hashed(number, side) for number in range(len(sides[side]))] for side in (0, 1))
    held_hashes = np.concatenate([np.zeros(0, np.uint64), *(one.hashes for one in held)])
    plan = make_plan(
        measured,
        held_hashes,
        max_distance=config.max_distance,
        join_captions=config.join_captions,
        watch=watch,
    )
    report = planned(config, stages[0], measured, plan, _name_near(opened, measured, held, plan))
    if report.num_images == 0:
        raise UserError(f"{out}: nothing is left to write ({_losses(report)}); use milder settings with --resume.")
    if dry_run:
        return report
    write_atomically(blocks / "plan.npz", save_plan(plan))
    settings = (blocks / "plan.npz", out, name, config.captions, samples_per_shard)
    again = functools.partial(open_writing, [part.source for part in config.parts], *settings)
    written = fill(blocks / "written", writing_stage(opened[0], *settings), again, engine, watch, resume=resume)
    report = _with_written(report, written)
    finish_shards(told, asked, report, name=name)
    return report


def planned(
    config: MixConfig, stages: Sequence[Stage], measured: Sequence[Measured], plan: Plan, near: list[list[NearHeldOut]]
) -> MixReport:
    """The report of what a plan would write."""
    sources = []
    for number, (part, stage, one) in enumerate(zip(config.parts, stages, measured, strict=True)):
        mine = plan.sources == number
        places = np.searchsorted(one.indices, plan.indices[mine])
        read, changed, *dropped = one.cleaning.tolist()
        sources.append(
            MixedSource(
                source=part.source,
                weight=part.weight,
                key_prefix=key_prefix(number),
                num_items=stage.made_from["num_items"],
                num_taken=stage.num_samples,
                num_broken=one.num_broken,
                num_held_out=len(near[number]),
                num_without_caption=int(plan.without_caption[number]),
                num_duplicates=int(plan.duplicates[number]),
                num_images=int(mine.sum()),
                num_captions=int(one.counts[places].sum()),
                num_captions_read=read,
                num_captions_changed=changed,
                dropped_captions=dict(zip(REASONS, dropped, strict=True)),
                near_held_out=near[number],
            )
        )
    return _totals(sources, num_shards=0)


def _totals(sources: list[MixedSource], *, num_shards: int) -> MixReport:
    return MixReport(
        sources=sources,
        num_images=sum(source.num_images for source in sources),
        num_captions=sum(source.num_captions for source in sources),
        num_shards=num_shards,
    )


def _with_written(report: MixReport, written: BlockFolder) -> MixReport:
    """The report with what was really written: items may have broken since they were read."""
    images, captions, broken = (written.column(key).sum(axis=0) for key in ("images", "captions", "num_broken"))
    sources = [
        source.model_copy(
            update={
                "num_images": int(images[number]),
                "num_captions": int(captions[number]),
                "num_broken": source.num_broken + int(broken[number]),
            }
        )
        for number, source in enumerate(report.sources)
    ]
    return _totals(sources, num_shards=written.stage.num_blocks)


def _name_near(
    opened: Sequence[Sequence[Source]], measured: Sequence[Measured], held: Sequence[Measured], plan: Plan
) -> list[list[NearHeldOut]]:
    """By source, the pictures near held-out ones, with the keys of both."""
    near: list[list[NearHeldOut]] = [[] for _ in measured]
    edges = np.cumsum([0, *(len(one.hashes) for one in held)])
    for owner, index, place in plan.held_out.tolist():
        side = int(np.searchsorted(edges, place, side="right")) - 1
        row = place - int(edges[side])
        mine = measured[owner].hashes[np.searchsorted(measured[owner].indices, index)]
        other = opened[1][side]
        near[owner].append(
            NearHeldOut(
                key=_key(opened[0][owner], index),
                near=f"{other.name}: {_key(other, int(held[side].indices[row]))}",
                distance=int(np.bitwise_count(mine ^ held[side].hashes[row])),
            )
        )
    return near


def _key(source: Source, index: int) -> str:
    try:
        return source[index].key
    except BrokenItemError:
        return f"item {index}"


def _losses(report: MixReport) -> str:
    """Why nothing is left, for an error."""
    names = ("num_taken", "num_broken", "num_held_out", "num_without_caption", "num_duplicates")
    sums = {name: sum(getattr(source, name) for source in report.sources) for name in names}
    return ", ".join(f"{name.removeprefix('num_').replace('_', ' ')}: {count:,}" for name, count in sums.items())


def save_plan(plan: Plan) -> bytes:
    """A plan as the bytes of an .npz file, the same for the same plan."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: getattr(plan, name) for name in Plan.__dataclass_fields__})
    return buffer.getvalue()


def load_plan(file: Path) -> Plan:
    """What `save_plan` wrote."""
    with np.load(file, allow_pickle=False) as arrays:
        return Plan(**{name: arrays[name] for name in Plan.__dataclass_fields__})
