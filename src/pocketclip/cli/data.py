"""`pocketclip data` with its commands `inspect` and `convert`; the others have files of their own."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pocketclip.cli.features import features
from pocketclip.cli.filter import filter_source
from pocketclip.cli.mix import mix
from pocketclip.cli.options import Json, MaxBrokenShare, SourceText
from pocketclip.cli.stages import ShardFolder, ShardName
from pocketclip.cli.tables import print_table, tell_shards

app = typer.Typer(help="Look at a data source, write it as WebDataset shards, encode it once.", no_args_is_help=True)


@app.command()
def inspect(
    source: SourceText,
    sheet: Annotated[Path | None, typer.Option(help="Write a PNG with random images and their captions here.")] = None,
    json_lines: Json = False,
) -> None:
    """Count, measure and check a source: captions, sizes, broken items, duplicates.

    \b
    Example:
      pocketclip data inspect folder:photos --sheet photos.png
    """
    from pocketclip.cli.progress import reporter
    from pocketclip.curate.inspect import contact_sheet, inspect_source
    from pocketclip.data import open_source
    from pocketclip.files import cannot_write

    opened = open_source(source, place="SOURCE")
    with reporter() as shown:
        inspection = inspect_source(opened, shown)
    if sheet is not None:
        try:
            contact_sheet(opened).save(sheet, "PNG")
        except OSError as error:
            raise cannot_write(sheet, error) from error
        typer.echo(f"Contact sheet: {sheet}", err=True)
    values = inspection.to_json()
    if json_lines:
        typer.echo(json.dumps(values, ensure_ascii=False))
        return
    rows = []
    for key, value in values.items():
        if key in ("source", "broken", "same_images"):
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{name}: {count:g}" for name, count in value.items())
        rows.append([key.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)])
    print_table(inspection.name, ["", ""], rows)
    for line in inspection.broken[:10]:
        typer.echo(f"broken: {line}")
    for first, second in inspection.same_image[:10]:
        typer.echo(f"same picture: {first} and {second}")


@app.command()
def convert(
    source: SourceText,
    out: ShardFolder,
    name: ShardName = "data",
    samples_per_shard: Annotated[int, typer.Option(min=1, help="Items a shard covers.")] = 1000,
    max_broken_share: MaxBrokenShare = 0.01,
) -> None:
    """Write any source as WebDataset shards; a stopped conversion goes on when called again.

    Pictures are checked by decoding them, and written as they are.

    \b
    Example:
      pocketclip data convert csv:pairs.csv --out shards --name pairs
    """
    from pocketclip.cli.progress import reporter
    from pocketclip.data import open_source
    from pocketclip.data.shards import write_shards
    from pocketclip.preprocess import decode_image

    opened = open_source(source, place="SOURCE")
    with reporter(max_broken_share, len(opened)) as shown:
        told = write_shards(
            opened,
            out,
            name=name,
            samples_per_shard=samples_per_shard,
            check=lambda sample: decode_image(sample.image, place=sample.place),
            watch=shown,
        )
    tell_shards(f"{told.num_written:,} samples", out, name, told.num_shards)


app.command("filter")(filter_source)
app.command()(mix)
app.command()(features)
