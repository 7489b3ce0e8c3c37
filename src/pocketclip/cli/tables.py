"""Results on stdout, as tables for people or JSON lines for programs, and where shards lie on stderr."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pocketclip.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

    from pocketclip.records import CostResult, EvalResult


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; numbers to the right, and on more lines where the terminal is too narrow for them."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=printable(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(printable(cell, keep="\n") for cell in row))
    plain_console().print(table)


def plain_console() -> "Console":
    """Standard output, on which names and captions stand as they are: `[red]` is no colour, `:cat:` no picture."""
    from rich.console import Console

    return Console(markup=False, emoji=False)


def print_one(
    values: Mapping[str, Any], title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, as_json: bool
) -> None:
    """One result, as a line or as a table."""
    if as_json:
        typer.echo(json.dumps(values))
    else:
        print_table(title, columns, rows)


def print_results(results: "Iterable[EvalResult]", *, as_json: bool = False) -> None:
    """What tasks measured: a line each, or a table each with its remarks below."""
    from pocketclip.evaluate.tasks import task_of

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
    typer.echo(f"{what} in {num_shards} shards: webdataset:{out}/{name}-{numbers}.tar", err=True)
