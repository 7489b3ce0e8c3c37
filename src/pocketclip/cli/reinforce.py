"""`pocketclip reinforce`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketclip.cli.loading import loading
from pocketclip.cli.options import Changes, Device, Json, MaxBrokenShare, Recipe
from pocketclip.cli.stages import EngineOption, RayAddress, Resume
from pocketclip.cli.tables import print_one
from pocketclip.cli.telling import tell

if TYPE_CHECKING:
    from pocketclip.data.sources.reinforcement import Manifest
    from pocketclip.distill.estimate import ReinforceEstimate


def reinforce(
    recipe: Recipe,
    changes: Changes = [],  # noqa: B006 (typer copies it)
    out: Annotated[Path | None, typer.Option(help="Folder for the shards; the recipe's `out` by default.")] = None,
    device: Device = "auto",
    engine: EngineOption = "local",
    ray_address: RayAddress = None,
    resume: Resume = False,
    max_broken_share: MaxBrokenShare = 0.01,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Try a few samples, print storage and time of all, and stop.")
    ] = False,
    json_lines: Json = False,
) -> None:
    """Store what teachers say of a data set, once.

    Writes pictures, captions, random views and the teachers' embeddings of them as WebDataset shards,
    which `pocketclip train` reads as reinforced:DIR (docs/reinforcement.md).

    \b
    Example, its two teachers first:
      pocketclip train mobileclip/flickr8k_teacher_cpu --out runs/teacher_lite2
      pocketclip train mobileclip/flickr8k_teacher_cpu \\
        --set model.image_encoder.name=tf_efficientnet_lite1 \\
        --out runs/teacher_lite1
      pocketclip reinforce mobileclip/reinforce_flickr8k --dry-run
      pocketclip reinforce mobileclip/reinforce_flickr8k
    """
    from pocketclip.cli.progress import reporter, tell_left_out
    from pocketclip.distill.estimate import estimate
    from pocketclip.distill.reinforce import Reinforcer
    from pocketclip.distill.store import write_reinforced
    from pocketclip.errors import UserError
    from pocketclip.models.running.precision import resolve_device
    from pocketclip.recipe import load_reinforcement
    from pocketclip.stages.cluster import open_engine

    config = load_reinforcement(recipe, changes)
    if out is None and config.out is not None:
        out = Path(config.out)
    if out is None and not dry_run:
        raise UserError(f"{recipe}: out: is null; say where the shards go with --out DIR.")
    with loading("the teachers"):
        reinforcer = Reinforcer(config, resolve_device(device))
    if out is None or dry_run:
        _show_estimate(estimate(reinforcer), as_json=json_lines)
        return
    with open_engine(engine, ray_address) as compute, reporter(max_broken_share, len(reinforcer.source)) as shown:
        tell_left_out(shown, reinforcer.source)
        manifest = write_reinforced(reinforcer, out, compute, shown, resume=resume)
    _show(manifest, out, as_json=json_lines)


def _show_estimate(cost: "ReinforceEstimate", *, as_json: bool) -> None:
    """What it would cost, to stdout."""
    rows = [
        ["samples", f"{cost.num_samples:,}"],
        ["embeddings a sample", f"{cost.num_views} views + {cost.texts_per_sample:.1f} texts, {cost.width} wide"],
        ["bytes of embeddings a sample", _size(cost.feature_bytes_per_sample)],
        ["bytes a sample, picture and all", _size(cost.bytes_per_sample)],
        ["storage", _size(cost.num_bytes)],
        [f"speed, over {cost.num_measured} samples", f"{cost.samples_per_second:.3g} samples/s"],
        ["time on this machine", _duration(cost.seconds)],
    ]
    print_one(cost.model_dump(), "reinforce", ["", ""], rows, as_json=as_json)


def _show(manifest: "Manifest", folder: Path, *, as_json: bool) -> None:
    """Counts to stdout, how to train on the folder to stderr."""
    num_bytes = sum(shard.num_bytes for shard in manifest.shards)
    tell(f"Train on it with --set data.train=reinforced:{folder}")
    values = {
        "folder": str(folder),
        "num_samples": manifest.num_samples,
        "num_captions": manifest.num_captions,
        "num_views": manifest.num_views,
        "num_synthetic": manifest.num_synthetic,
        "num_broken": len(manifest.broken),
        "num_shards": len(manifest.shards),
        "num_bytes": num_bytes,
        "teachers": [teacher.name for teacher in manifest.teachers],
    }
    rows = [
        ["samples", f"{manifest.num_samples:,} in {len(manifest.shards)} shards"],
        ["captions", f"{manifest.num_captions:,}, and {manifest.num_synthetic} synthetic ones a sample"],
        ["views a sample", f"{manifest.num_views}"],
        ["teachers", ", ".join(f"{teacher.name} ({teacher.width})" for teacher in manifest.teachers)],
        ["left out", f"{len(manifest.broken):,}"],
        ["storage", _size(num_bytes)],
    ]
    print_one(values, str(folder), ["", ""], rows, as_json=as_json)


def _size(num_bytes: float) -> str:
    """Bytes for people, a thousand to the kB: 110592 is 110.6 kB."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.4g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.4g} TB"


def _duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
