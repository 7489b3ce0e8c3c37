"""Tables for people on stdout."""

from collections.abc import Iterable, Sequence

from pocketclip.records import CostResult, EvalResult, Interval

_RETRIEVALS = {"retrieval": "Retrieval", "retrieval_1k_folds": "Retrieval in folds of 1,000"}


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; numbers to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def print_retrieval(results: Iterable[EvalResult]) -> None:
    """Recalls of each split, or accuracies over pairs of images, in percent with 95 % intervals."""
    from rich.console import Console

    from pocketclip.study.table import RETRIEVAL_COLUMNS, accuracy_rows, has_recalls, retrieval_rows

    for result in results:
        if not has_recalls(result):
            title = f"{result.task} on {result.split}: {result.num_captions:,} examples; percent [95 % interval]"
            print_table(title, ("", result.task), accuracy_rows(result))
            continue
        counts = f"{result.num_images:,} images, {result.num_captions:,} captions"
        title = f"{_RETRIEVALS[result.task]} on {result.split}: {counts}; percent [95 % interval]"
        print_table(title, RETRIEVAL_COLUMNS, retrieval_rows(result))
        mean = result.metrics.get("mean_recall")  # records of earlier versions have none
        lines = [f"mean of the six recalls {mean.percent()}"] if isinstance(mean, Interval) else []
        for line in [*lines, *result.notes]:
            Console().print(line, highlight=False)


def print_unimodal(results: Iterable[EvalResult]) -> None:
    """Accuracies of each probe in percent with 95 % intervals, before training and after, with notes below."""
    from rich.console import Console

    from pocketclip.study.table import UNIMODAL_COLUMNS, unimodal_rows, unimodal_title

    for result in results:
        print_table(unimodal_title(result), UNIMODAL_COLUMNS, unimodal_rows(result))
        if result.notes:
            Console().print("\n".join(result.notes), highlight=False)


def print_cost(cost: CostResult) -> None:
    """The cost table with its conditions below."""
    from rich.console import Console

    from pocketclip.study.table import COST_COLUMNS, cost_rows

    print_table(f"Cost of {cost.name}", COST_COLUMNS, cost_rows(cost))
    lines = [*cost.notes, f"{cost.provenance.hardware}, {cost.metrics.get('num_threads')} threads"]
    Console().print("\n".join(lines), highlight=False)
