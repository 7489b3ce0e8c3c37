"""Options of the commands that work through a source block by block, or write shards."""

from pathlib import Path
from typing import Annotated, Literal

import typer

EngineOption = Annotated[
    Literal["local", "ray"], typer.Option("--engine", help="local, or ray for many processes and machines.")
]
RayAddress = Annotated[
    str | None, typer.Option(help="Of a running Ray cluster; without it RAY_ADDRESS, or all cores of this machine.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with an earlier run, or do nothing where it was finished.")
]
ShardFolder = Annotated[Path, typer.Option("--out", help="Folder for the shards.")]
ShardName = Annotated[str, typer.Option("--name", help="Before the shard number: NAME-000000.tar.")]
SamplesPerShard = Annotated[int, typer.Option(min=1, help="Samples in a shard.")]
