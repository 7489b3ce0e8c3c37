"""Results on stdout, as tables for people or JSON lines for programs, and where shards lie on stderr."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pocketclip.cli.telling import asked, tell
from pocketclip.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

    from pocketclip.records import CostResult, EvalResult


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; numbers to the right. One that is wider than the terminal comes in parts, each with the first column.

    No number is broken: the first column is cut where it takes more than a third of the room. Of only two columns the
    second is text, which goes on in the next line.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    console = plain_console()
    texts = [[printable(cell, keep="\n") for cell in row] for row in [columns, *rows]]
    console.print(printable(title), style="bold", highlight=False, no_wrap=True, overflow="ellipsis")
    for part in _parts(texts, console.width):
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for place in part:
            cut = place == 0 and len(columns) > 2
            table.add_column(
                columns[place],
                justify="left" if place == 0 else "right",
                overflow="ellipsis" if cut else "fold",
                no_wrap=cut,
                max_width=console.width // 3 if cut and len(part) < len(columns) else None,
            )
        for row in texts[1:]:
            table.add_row(*(row[place] for place in part))
        console.print(table)


def _parts(texts: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """Numbers of the columns that stand side by side in a part of a table, the first in each."""
    from rich.cells import cell_len

    margin = 2  # of a column, and of the table itself
    columns = zip(*texts, strict=True)
    widths = [max(cell_len(line) for cell in column for line in cell.split("\n")) for column in columns]
    if len(widths) < 3 or sum(widths) + margin * (len(widths) + 1) <= width:
        return [list(range(len(widths)))]
    first = min(widths[0], width // 3) + 2 * margin
    parts, used = [[0]], first
    for place, own in enumerate(widths[1:], start=1):
        if used + own + margin > width and len(parts[-1]) > 1:
            parts.append([0])
            used = first
        parts[-1].append(place)
        used += own + margin
    return parts


def print_line(text: str, *, before: str = "") -> None:
    """One line of many, on a terminal cut to its width unless --verbose; whole in a pipe or a file.

    What stands `before` the text is never cut, such as a path that somebody will copy.
    """
    from rich.cells import cell_len, set_cell_size

    console, text, before = plain_console(), printable(text), printable(before)
    room = console.width - cell_len(before)
    if console.is_terminal and not asked.verbose and cell_len(text) > room:
        text = f"{set_cell_size(text, room - 1).rstrip()}…" if room > 1 else ""
    typer.echo(before + text)


def plain_console() -> "Console":
    """Standard output, on which names and captions stand as they are: `[red]` is no colour, `:cat:` no picture.

    Lines are as long as the terminal is wide, and as they come in a pipe or a file.
    """
    from rich.console import Console

    console = Console(markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 10_000
    return console


def print_one(
    values: Mapping[str, Any], title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, as_json: bool
) -> None:
    """One result, as a line or as a table."""
    if as_json:
        typer.echo(json.dumps(values))
    else:
        print_table(title, columns, rows)


def print_results(results: "Iterable[EvalResult]", *, as_json: bool = False) -> None:
    """What tasks measured: a line each, or a table each with its remarks below; or all as one CSV."""
    from pocketclip.evaluate.tasks import task_of

    if asked.format == "csv":
        from pocketclip.report.table import results_csv

        typer.echo(results_csv(results), nl=False)
        return
    for result in results:
        if as_json:
            typer.echo(json.dumps(result.to_json()))
            continue
        task = task_of(result)
        print_table(task.title(result), ("", *task.columns[1:]), task.rows(result))
        for line in task.remarks(result):
            plain_console().print(printable(line, keep="\n"), highlight=False)


def print_cost(cost: "CostResult") -> None:
    """The cost table with its conditions below."""
    from pocketclip.report.table import COST_COLUMNS, cost_rows

    print_table(f"Cost of {cost.name}", COST_COLUMNS, cost_rows(cost))
    lines = [*cost.notes, f"{cost.provenance.machine}, {cost.metrics.get('num_threads')} threads"]
    plain_console().print(printable("\n".join(lines), keep="\n"), highlight=False)


def tell_shards(what: str, out: Path, name: str, num_shards: int) -> None:
    """How many shards hold `what`, and the source that they are, to stderr."""
    numbers = "000000" if num_shards == 1 else f"{{000000..{num_shards - 1:06d}}}"
    tell(f"{what} in {num_shards} shards: webdataset:{out}/{name}-{numbers}.tar")
