"""What the commands that work through a source block by block, or write shards, share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

EngineOption = Annotated[
    Literal["local", "ray"], typer.Option("--engine", help="local, or ray for many processes and machines.")
]
RayAddress = Annotated[
    str | None, typer.Option(help="Of a running Ray cluster; without it RAY_ADDRESS, or all cores of this machine.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the blocks that an earlier run wrote.")]
ShardName = Annotated[str, typer.Option("--name", help="Before the shard number: NAME-000000.tar.")]
SamplesPerShard = Annotated[int, typer.Option(min=1, help="Samples in a shard.")]


def tell_shards(what: str, out: Path, name: str, num_shards: int) -> None:
    """How many shards hold `what`, and the source that they are, to stderr."""
    numbers = "000000" if num_shards == 1 else f"{{000000..{num_shards - 1:06d}}}"
    typer.echo(f"{what} in {num_shards} shards: webdataset:{out}/{name}-{numbers}.tar", err=True)
