"""What the commands that work through a source block by block share."""

from typing import Annotated, Literal

import typer

EngineOption = Annotated[
    Literal["local", "ray"], typer.Option("--engine", help="local, or ray for many processes and machines.")
]
RayAddress = Annotated[
    str | None, typer.Option(help="Of a running Ray cluster; without it RAY_ADDRESS, or all cores of this machine.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the blocks that an earlier run wrote.")]
