"""`pocketclip report`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Run folders, or one of a study.")],
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file; report.html in the first folder by default, study.html in a study's."),
    ] = None,
) -> None:
    """Write a page with scores, pictures, curves and costs of one run or several, or of a study.

    \b
    Example:
      pocketclip report runs/mine runs/theirs --out both.html
    """
    from pocketclip.errors import UserError
    from pocketclip.report.runs import write_report
    from pocketclip.study.page import write_study_page
    from pocketclip.study.record import is_study, is_tower_study
    from pocketclip.study.towers.page import write_towers_page

    first = folders[0]
    study = next((folder for folder in folders if is_study(folder)), None)
    if study is None:
        typer.echo(str(write_report(folders, out or first / "report.html")))
    elif len(folders) == 1:
        write = write_towers_page if is_tower_study(first) else write_study_page
        typer.echo(str(write(first, out or first / "study.html")))
    else:
        command = f"pocketclip report {shlex.quote(str(study))}"
        raise UserError(f"{study}: is a study, which has a page of its own: {command}")
