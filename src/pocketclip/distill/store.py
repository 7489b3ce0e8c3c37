"""Writing a reinforced folder shard by shard, so that a stopped run goes on and many machines can share the work."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pocketclip.data.labels import write_class_names
from pocketclip.data.sources import reinforcement
from pocketclip.data.sources.reinforced import ReinforcedSample, write_shard
from pocketclip.data.sources.reinforcement import MANIFEST, Manifest, StoredShard, check_shard
from pocketclip.distill.config import ReinforceConfig
from pocketclip.distill.reinforce import Reinforcer, settings_of
from pocketclip.errors import UserError
from pocketclip.models.running.precision import resolve_device
from pocketclip.stages.engine import Engine, fill
from pocketclip.stages.store import Block, BlockFolder, Stage, first_difference
from pocketclip.stages.watch import SILENT, Watch

SHARDS = "reinforced-*.tar"
WORK = "reinforcing"


def open_reinforcing(values: dict[str, Any], out: Path, device: str) -> Stage:
    """The stage of `pocketclip reinforce` in another process, from the values of a `ReinforceConfig`."""
    config = ReinforceConfig.parse(values, place="reinforce")
    return reinforcing_stage(Reinforcer(config, resolve_device(device)), out)


def reinforcing_stage(reinforcer: Reinforcer, out: Path, watch: Watch = SILENT) -> Stage:
    """The stage that writes shards into `out`: a block is a shard, and holds what the manifest says of it.

    `watch` is told of the samples done while a shard is written in this process.
    """
    size, num_samples = reinforcer.config.samples_per_shard, len(reinforcer.source)

    def compute(start: int, stop: int) -> Block:
        broken: list[str] = []

        def samples() -> Iterator[ReinforcedSample]:
            for number, item in enumerate(reinforcer.samples(start, stop, broken), start=1):
                yield item
                done = min(start + number + len(broken), stop - 1)  # the last counts when the shard is there
                watch.work(WORK, done, num_samples)

        shard = write_shard(out / f"reinforced-{start // size:06d}.tar", samples(), reinforcer.manifest)
        return Block({"shard": np.frombuffer(shard.model_dump_json().encode(), np.uint8)}, broken)

    on_gpu = reinforcer.device.type == "cuda"
    return Stage(WORK, reinforcer.made_from(), num_samples, size, compute, on_gpu=on_gpu)


def write_reinforced(reinforcer: Reinforcer, out: Path, engine: Engine, watch: Watch, *, resume: bool) -> Manifest:
    """Reinforce into `out`: reinforced-000000.tar, ... and then `reinforcement.json`, which it returns.

    The folder is made if missing, and holds `blocks/` until everything is written. It goes on with the shards of an
    unfinished call, and with `resume` does nothing where one was finished; other teachers or settings are a UserError.
    """
    blocks, stage = out / "blocks", reinforcing_stage(reinforcer, out.absolute(), watch)
    if (out / MANIFEST).is_file():
        return _finished(out, reinforcer.manifest, resume=resume)
    if not blocks.is_dir() and any(out.glob(SHARDS)):
        raise UserError(f"{out}: holds shards {SHARDS} that no unfinished run left here; choose another --out.")
    for left in out.glob(f".{SHARDS}.*"):  # of killed workers
        left.unlink(missing_ok=True)
    _forget_lost_shards(BlockFolder(blocks, stage), out)
    values = reinforcer.config.model_dump(mode="json")
    open_stage = partial(open_reinforcing, values, out.absolute(), str(reinforcer.device))
    folder = fill(blocks, stage, open_stage, engine, watch, resume=resume)
    write_class_names(out, reinforcer.source, SHARDS.partition("-")[0])
    written = list(folder.read_all())
    shards = [_shard_of(block) for block in written]
    if not any(shard.num_samples for shard in shards):
        raise UserError(f"{reinforcer.source.name}: no sample could be reinforced; {out} is not finished.")
    broken = tuple(message for block in written for message in block.broken)
    manifest = reinforcement.write_manifest(out, reinforcer.manifest.model_copy(update={"broken": broken}), shards)
    folder.remove()
    return manifest


def _shard_of(block: Block) -> StoredShard:
    return StoredShard.model_validate_json(block.arrays["shard"].tobytes())


def _forget_lost_shards(folder: BlockFolder, out: Path) -> None:
    """Drop the blocks whose shards are missing or not as long as they were: they are computed again."""
    for number in range(folder.stage.num_blocks):
        if folder.file(number).is_file():
            try:
                check_shard(out, _shard_of(folder.read(number)))
            except (UserError, ValueError):
                folder.file(number).unlink(missing_ok=True)


def _finished(out: Path, manifest: Manifest, *, resume: bool) -> Manifest:
    """The manifest of an earlier call that asked for the same."""
    if not resume:
        raise UserError(f"{out}: is reinforced already; choose another --out, or delete it to start anew.")
    there = reinforcement.read_manifest(out)
    if difference := first_difference(settings_of(there), json.loads(json.dumps(settings_of(manifest)))):
        raise UserError(f"{out / MANIFEST}: {difference}. Choose another --out.")
    for shard in there.shards:
        check_shard(out, shard)
    return there
