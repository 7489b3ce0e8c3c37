"""`pocketclip report`."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Run folders.")],
    out: Annotated[Path | None, typer.Option(help="HTML file; report.html in the first folder by default.")] = None,
) -> None:
    """Write a page with scores, pictures, curves and costs of one run or several.

    \b
    Example:
      pocketclip report runs/mine runs/theirs --out both.html
    """
    from pocketclip.report.runs import write_report

    typer.echo(str(write_report(folders, out or folders[0] / "report.html")))
