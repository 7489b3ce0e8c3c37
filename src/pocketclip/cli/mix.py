"""`pocketclip data mix`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketclip.cli.options import Json, MaxBrokenShare
from pocketclip.cli.stages import EngineOption, RayAddress, Resume, SamplesPerShard, ShardFolder, ShardName
from pocketclip.cli.tables import print_table, tell_shards
from pocketclip.cli.telling import tell

if TYPE_CHECKING:
    from pocketclip.curate.mix_report import MixReport


def mix(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE[@WEIGHT]...",
            help="KIND:PLACE, then @ and the share of its items to take, unless all are: csv:pairs.csv@0.5.",
            show_default=False,
        ),
    ],
    out: ShardFolder,
    without: Annotated[
        list[str],
        typer.Option(metavar="SOURCE", help="Leave out pictures near those of this test split; may be repeated."),
    ] = [],  # noqa: B006
    max_distance: Annotated[int, typer.Option(help="Bits of 64 in which hashes of near duplicates may differ.")] = 4,
    join_captions: Annotated[
        bool, typer.Option("--join-captions", help="Give the captions of dropped duplicates to the one that stays.")
    ] = False,
    min_caption_words: Annotated[int, typer.Option(help="Drop captions of fewer words.")] = 2,
    max_caption_words: Annotated[int, typer.Option(help="Drop captions of more words.")] = 128,
    max_captions: Annotated[int | None, typer.Option(help="Keep so many captions of an image, the first ones.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw from sources with a weight below 1.")] = 0,
    name: ShardName = "data",
    samples_per_shard: SamplesPerShard = 1000,
    engine: EngineOption = "local",
    ray_address: RayAddress = None,
    resume: Resume = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and count, but write no shard.")] = False,
    max_broken_share: MaxBrokenShare = 0.01,
    json_lines: Json = False,
) -> None:
    """Mix sources into WebDataset shards: a share of each, captions cleaned, near duplicates left out.

    A weight is the share of a source's items that is taken, drawn by the seed before anything is dropped. Of pictures
    that are nearly the same in any of the sources, the one with the most captions stays; of equals, the first.

    \b
    Example:
      pocketclip data mix csv:ours.csv folder:scraped@0.5 \\
        --without folder:test --out mixed
    """
    from pocketclip.cli.progress import reporter
    from pocketclip.curate.curation import carry_out
    from pocketclip.curate.mix import MixConfig, mixing, parse_part
    from pocketclip.files import alone_in
    from pocketclip.stages.cluster import open_engine
    from pocketclip.stages.engine import compute_in_threads

    parts = [parse_part(text) for text in sources]
    values = {
        "parts": [{"source": part.source, "weight": part.weight} for part in parts],
        "without": without,
        "captions": {"min_words": min_caption_words, "max_words": max_caption_words, "max_captions": max_captions},
        "max_distance": max_distance,
        "join_captions": join_captions,
        "seed": seed,
    }
    config = MixConfig.parse(values, place="pocketclip data mix")
    with alone_in(out), open_engine(engine, ray_address) as compute, reporter(max_broken_share) as shown:
        report = carry_out(
            mixing(config, out),
            compute_in_threads if engine == "local" else compute,
            shown,
            name=name,
            samples_per_shard=samples_per_shard,
            resume=resume,
            dry_run=dry_run,
        )
    _show(report, out, name, is_held_out=bool(without), as_json=json_lines)


def _show(report: "MixReport", out: Path, name: str, *, is_held_out: bool, as_json: bool) -> None:
    """Counts to stdout, where the shards lie to stderr."""
    counts = f"{report.num_images:,} images with {report.num_captions:,} captions"
    if report.num_shards:
        tell_shards(counts, out, name, report.num_shards)
    else:
        tell(f"{counts} would be written; write them with --resume instead of --dry-run")
    if is_held_out:
        tell(f"{sum(source.num_held_out for source in report.sources):,} images near held-out ones")
    else:
        tell("No source is held out: name the test splits you will measure on with --without.")
    if as_json:
        typer.echo(json.dumps(report.model_dump(), ensure_ascii=False))
        return
    columns = ("", "taken", "broken", "held\nout", "no\ncaption", "duplicates", "images", "captions")
    names = ("taken", "broken", "held_out", "without_caption", "duplicates", "images", "captions")
    rows = [[one.source, *(f"{getattr(one, f'num_{column}'):,}" for column in names)] for one in report.sources]
    print_table(str(out), columns, rows)
