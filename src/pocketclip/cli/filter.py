"""`pocketclip data filter`."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketclip.cli.loading import loading
from pocketclip.cli.options import MODEL_HELP, Device, Json, MaxBrokenShare, SourceText
from pocketclip.cli.stages import EngineOption, RayAddress, Resume, SamplesPerShard, ShardFolder, ShardName
from pocketclip.cli.tables import print_one, tell_shards
from pocketclip.cli.telling import tell

if TYPE_CHECKING:
    from pocketclip.curate.filter import FilterConfig, FilterReport
    from pocketclip.stages.store import Stage


def filter_source(
    source: SourceText,
    out: ShardFolder,
    min_image_side: Annotated[int | None, typer.Option(help="Drop images whose shorter side has fewer pixels.")] = None,
    max_aspect_ratio: Annotated[float | None, typer.Option(help="Longer over shorter side; drop images above.")] = None,
    drop_duplicate_images: Annotated[
        bool, typer.Option("--drop-duplicate-images", help="Keep the first of files with the same bytes.")
    ] = False,
    min_caption_words: Annotated[int | None, typer.Option(help="Drop captions of fewer words.")] = None,
    max_caption_words: Annotated[int | None, typer.Option(help="Drop captions of more words.")] = None,
    drop_duplicate_captions: Annotated[
        bool, typer.Option("--drop-duplicate-captions", help="Keep the first of captions with the same text.")
    ] = False,
    min_similarity: Annotated[float | None, typer.Option(help="Drop captions that are less similar.")] = None,
    keep_share: Annotated[float | None, typer.Option(help="Keep this share of captions, the most similar.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help=f"To compare captions with their images. {MODEL_HELP}")
    ] = None,
    name: ShardName = "data",
    samples_per_shard: SamplesPerShard = 1000,
    device: Device = "auto",
    engine: EngineOption = "local",
    ray_address: RayAddress = None,
    resume: Resume = False,
    max_broken_share: MaxBrokenShare = 0.01,
    json_lines: Json = False,
) -> None:
    """Write the samples that pass the given rules as WebDataset shards, and count what each rule dropped.

    Rules apply in the order of this list. Those about captions drop captions; an image goes with its last
    one, and one that never had any goes, too.
    How similar caption and image are, from -1 to 1, is what --model says.

    \b
    Examples:
      pocketclip data filter folder:photos --out kept --min-image-side 64
      pocketclip data filter folder:photos --out best --model runs/mine \\
        --keep-share 0.5
    """
    from pocketclip.cli.progress import reporter
    from pocketclip.curate.curation import carry_out
    from pocketclip.curate.filter import FilterConfig, filtering
    from pocketclip.stages.cluster import open_engine

    given = {
        "min_image_side": min_image_side,
        "max_aspect_ratio": max_aspect_ratio,
        "drop_duplicate_images": drop_duplicate_images,
        "min_caption_words": min_caption_words,
        "max_caption_words": max_caption_words,
        "drop_duplicate_captions": drop_duplicate_captions,
        "min_similarity": min_similarity,
        "keep_share": keep_share,
    }
    rules = FilterConfig.parse(given, place="pocketclip data filter")
    open_stage = _measuring(source, rules, model, device)
    with open_engine(engine, ray_address) as compute:
        with loading(model) if model else nullcontext():
            stage = open_stage()
        with reporter(max_broken_share, stage.num_samples) as shown:
            curation = filtering(stage, open_stage, source, rules, out)
            report = carry_out(curation, compute, shown, name=name, samples_per_shard=samples_per_shard, resume=resume)
    _show(report, out, name, as_json=json_lines)


def _measuring(source: str, rules: "FilterConfig", model: str | None, device: str) -> "Callable[[], Stage]":
    """How the measuring stage is opened, with a model where a rule needs one."""
    from pocketclip.curate.filter import open_measuring
    from pocketclip.errors import UserError

    if not rules.needs_model:
        if model is not None:
            raise UserError("--model has no effect without --min-similarity or --keep-share.")
        return partial(open_measuring, source)
    if model is None:
        raise UserError("--min-similarity and --keep-share need a model to compare with: add --model MODEL.")
    from pocketclip.models.running.precision import resolve_device
    from pocketclip.run.embedding import open_similarity

    return partial(open_similarity, source, model, str(resolve_device(device)))


def _show(report: "FilterReport", out: Path, name: str, *, as_json: bool) -> None:
    """Counts to stdout, what each rule dropped and where the shards lie to stderr."""
    for what, dropped in (("images", report.dropped_images), ("captions", report.dropped_captions)):
        for rule, count in dropped.items():
            tell(f"{rule}: {count:,} {what} dropped")
    if bare := report.num_without_caption:
        then = "dropped with those that lost theirs" if "no_caption_left" in report.dropped_images else "not dropped"
        tell(f"{bare:,} of {report.num_images:,} images never had a caption: {then}")
    tell_shards(f"{report.num_kept_images:,} samples", out, name, report.num_shards)
    rows = [
        ["images", f"{report.num_images:,}", f"{report.num_kept_images:,}"],
        ["captions", f"{report.num_captions:,}", f"{report.num_kept_captions:,}"],
    ]
    print_one(report.model_dump(), str(out), ["", "read", "kept"], rows, as_json=as_json)
