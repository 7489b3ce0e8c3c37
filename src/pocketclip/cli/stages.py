"""What the commands that work through a source block by block share: options and progress."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import typer

EngineOption = Annotated[
    Literal["local", "ray"], typer.Option("--engine", help="local, or ray for many processes and machines.")
]
RayAddress = Annotated[
    str | None, typer.Option(help="Of a running Ray cluster; without it RAY_ADDRESS, or all cores of this machine.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the blocks that an earlier run wrote.")]


@contextmanager
def progress_over(num_samples: int, max_broken_share: float) -> Iterator[Callable[[str, int, int, list[str]], None]]:
    """A function that shows how far work over a source is, names broken items and stops above a share of them."""
    from pocketclip.cli.progress import reporter
    from pocketclip.data.broken import BrokenItems

    broken = BrokenItems(num_samples, max_broken_share, setting="--max-broken-share")
    with reporter() as shown:

        def progress(work: str, done: int, total: int, messages: list[str]) -> None:
            for message in broken.add(messages):
                shown.note(f"left out: {message}")
            shown.work(work, done, total)

        yield progress
