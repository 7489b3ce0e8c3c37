"""`pocketclip data` with its command `convert`; the others have files of their own."""

from typing import Annotated

import typer

from pocketclip.cli.features import features
from pocketclip.cli.filter import filter_source
from pocketclip.cli.group import Commands
from pocketclip.cli.inspect import inspect
from pocketclip.cli.mix import mix
from pocketclip.cli.options import MaxBrokenShare, SourceText, Verify
from pocketclip.cli.stages import ShardFolder, ShardName
from pocketclip.cli.tables import tell_shards

app = typer.Typer(
    cls=Commands, help="Look at a data source, write it as WebDataset shards, encode it once.", no_args_is_help=True
)
app.command()(inspect)


@app.command()
def convert(
    source: SourceText,
    out: ShardFolder,
    name: ShardName = "data",
    samples_per_shard: Annotated[int, typer.Option(min=1, help="Items a shard covers.")] = 1000,
    verify: Verify = False,
    max_broken_share: MaxBrokenShare = 0.01,
) -> None:
    """Write any source as WebDataset shards; a stopped conversion goes on when called again.

    Pictures are checked by decoding them, and written as they are.

    \b
    Example:
      pocketclip data convert csv:pairs.csv --out shards --name pairs
    """
    from pocketclip.cli.progress import reporter, tell_left_out
    from pocketclip.data import open_source
    from pocketclip.data.identity import verify_content
    from pocketclip.data.shards import write_shards
    from pocketclip.preprocess import decode_image

    opened = open_source(source, place="SOURCE")
    with reporter(max_broken_share, len(opened)) as shown:
        tell_left_out(shown, opened)
        if verify:
            verify_content(opened, shown)
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
