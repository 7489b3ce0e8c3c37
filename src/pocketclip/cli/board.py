"""`pocketclip board`."""

from pathlib import Path
from typing import Annotated

import typer


def board(
    places: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Run folders, folders of them or of results, and files of results."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="HTML file; board.html in the first folder by default. The CSV lies beside it.")
    ] = None,
) -> None:
    """Write a page and a CSV of models by tasks: scores with intervals, costs, accuracy against cost.

    A model's records are joined by its name, whatever folder they are in; costs are what
    `pocketclip cost MODEL > results/mine_cost.json` wrote.

    \b
    Examples:
      pocketclip board runs/mine runs/theirs --out board.html
      pocketclip board results items runs
    """
    from pocketclip.report.board import write_board

    first = places[0] if places[0].is_dir() else places[0].parent
    for path in write_board(places, out or first / "board.html"):
        typer.echo(str(path))
