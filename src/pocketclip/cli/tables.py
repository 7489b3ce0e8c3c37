"""Tables for people on stdout."""

from collections.abc import Iterable, Sequence

from pocketclip.records import CostResult, EvalResult


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; numbers to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def print_retrieval(results: Iterable[EvalResult]) -> None:
    """Recalls of each split in percent with 95 % intervals."""
    from pocketclip.study.table import RETRIEVAL_COLUMNS, retrieval_rows

    rows = [row for result in results for row in retrieval_rows(result)]
    print_table("Retrieval, percent [95 % interval over images]", RETRIEVAL_COLUMNS, rows)


def print_cost(cost: CostResult) -> None:
    """The cost table with its conditions below."""
    from rich.console import Console

    from pocketclip.study.table import COST_COLUMNS, cost_rows

    print_table(f"Cost of {cost.name}", COST_COLUMNS, cost_rows(cost))
    lines = [*cost.notes, f"{cost.provenance.hardware}, {cost.metrics.get('num_threads')} threads"]
    Console().print("\n".join(lines), highlight=False)
