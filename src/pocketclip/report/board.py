"""The board: models by tasks with intervals, what they cost beside that, as one page and one CSV."""

import base64
import csv
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pocketclip.errors import UserError
from pocketclip.evaluate.comparison import compare
from pocketclip.evaluate.sides import Question
from pocketclip.evaluate.tasks import task_kinds, task_of
from pocketclip.files import write_atomically
from pocketclip.records import CostResult, EvalResult, Interval
from pocketclip.report.amounts import short_count
from pocketclip.report.page import make_room, write_page
from pocketclip.report.pareto import Point, pareto_plot
from pocketclip.report.standing import Gathered, Standing, gather
from pocketclip.report.table import BUSY


class Column(NamedTuple):
    """A score on some data."""

    question: Question
    metric: str


class Cost(NamedTuple):
    """A cost of a model; the least is best."""

    label: str
    unit: str
    parts: tuple[str, ...]
    """Metrics of a cost record that add up to it; the first alone where there is no text tower."""


COSTS = (
    Cost("parameters", "", ("parameters_total",)),
    Cost("MACs, image + text", "", ("macs_image", "macs_text")),
    Cost("latency, image + text", "ms", ("latency_ms_p50_image", "latency_ms_p50_text")),
    Cost("size on disk", "MiB", ("bundle_mib",)),
)
TIMED = COSTS[2]


@dataclass(frozen=True)
class Cell:
    """What stands in the table, and what it is sorted by."""

    text: str = ""
    value: float | None = None
    is_best: bool = False


@dataclass(frozen=True)
class Head:
    """The head of a column."""

    label: str
    about: str = ""
    """The data, in a second line."""
    is_cost: bool = False


@dataclass(frozen=True)
class Board:
    """Everything the page shows."""

    heads: list[Head]
    rows: list[tuple[str, list[Cell]]]
    """Models with their cells, the best in the first column on top."""
    plots: list[tuple[str, str]]
    """Title and SVG."""
    notes: list[str]


def write_board(places: Sequence[Path], out: Path) -> tuple[Path, Path]:
    """Write the page and, under the same name, the CSV of all records in some folders and files.

    Raises:
        UserError: there are none, or a file is damaged.
    """
    if out.suffix.lower() == ".csv":
        raise UserError(f"--out {out}: names the page, and the CSV lies beside it: use {out.with_suffix('.html')}.")
    found = gather(places)
    board = make_board(found)
    script = (Path(__file__).parent / "board.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    make_room(out)
    table = out.with_suffix(".csv")
    write_atomically(table, board_csv(found))
    page = write_page(out, "board.html", board=board, script=script, script_hash=digest, table=table.name)
    return page, table


def make_board(found: Gathered) -> Board:
    """The table, its pictures and what a reader has to know."""
    models = list(found.models.values())
    columns = _columns(models)
    costs = [cost for cost in COSTS if any(amount(model.cost, cost) is not None for model in models)]
    models.sort(key=lambda model: -value_of(score(model, columns[0])))
    best = {column: _best(column, models) for column in columns}
    rows = [
        (
            model.name,
            [_score_cell(score(model, column), best[column] == model.name) for column in columns]
            + [_cost_cell(model.cost, cost) for cost in costs],
        )
        for model in models
    ]
    heads = [*_score_heads(columns), *(Head(cost.label, is_cost=True) for cost in costs)]
    return Board(heads, rows, _plots(models, columns, costs), [*_notes(models, columns), *found.notes])


def score(model: Standing, column: Column) -> Interval | float | None:
    """What a model has in a column."""
    result = model.evaluations.get(column.question)
    return None if result is None else result.metrics.get(column.metric)


def value_of(score: Interval | float | None) -> float:
    """To sort by; what is missing comes last."""
    return -1.0 if score is None else score.value if isinstance(score, Interval) else score


def amount(record: CostResult | None, cost: Cost) -> float | None:
    """What a model costs; None where nobody measured it."""
    values = [] if record is None else [record.metrics.get(part) for part in cost.parts]
    known = [float(value) for value in values if isinstance(value, (int, float))]
    return sum(known) if known and isinstance(values[0], (int, float)) else None


def board_csv(found: Gathered) -> str:
    """A row a model: every score that has an interval, in fractions with its bounds, then the costs."""
    models = list(found.models.values())
    columns = _columns(models, whole=True)
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    names = [" ".join(filter(None, [*column.question, column.metric])) for column in columns]
    bounds = [f"{name}{ending}" for name in names for ending in ("", " low", " high")]
    writer.writerow(["model", *bounds, *(f"{cost.label} {cost.unit}".strip() for cost in COSTS)])
    for model in models:
        cells: list[object] = []
        for column in columns:
            own = score(model, column)
            cells += (
                [own.value, own.low, own.high] if isinstance(own, Interval) else ["" if own is None else own, "", ""]
            )
        amounts = [amount(model.cost, cost) for cost in COSTS]
        writer.writerow([model.name, *cells, *("" if own is None else own for own in amounts)])
    return output.getvalue()


def _columns(models: Sequence[Standing], *, whole: bool = False) -> list[Column]:
    """What the table shows, or the `whole` of what was measured, task by task in their usual order."""
    order = {kind: number for number, kind in enumerate(task_kinds())}
    columns: dict[Column, None] = {}
    for model in models:
        for question, result in model.evaluations.items():
            metrics = [name for name, own in result.metrics.items() if isinstance(own, Interval)] if whole else []
            columns |= {Column(question, metric): None for metric in metrics or shown_metrics(result)}
    return sorted(columns, key=lambda column: (order.get(column.question[0], len(order)), column.question))


def shown_metrics(result: EvalResult) -> list[str]:
    """The scores that a task is known by, and of a probe that of the embedding, which any library's model has."""
    known = [name for name in result.metrics if isinstance(result.metrics[name], Interval)]
    openings = task_of(result).openings
    return [name for name in known if name in openings or name.endswith("_embedding")] or known[:1]


def _best(column: Column, models: Sequence[Standing]) -> str | None:
    """The model that is surely better than every other one; None where that is not known.

    Where the items of two were kept, a paired test says so; else their intervals must not overlap.
    """
    scored = [(model, own) for model in models if isinstance(own := score(model, column), Interval)]
    if len(scored) < 2:
        return None
    best, top = max(scored, key=lambda pair: pair[1].value)
    others = [(model, own) for model, own in scored if model is not best]
    return best.name if all(_is_surely_better(column, (best, top), other) for other in others) else None


def _is_surely_better(column: Column, best: tuple[Standing, Interval], other: tuple[Standing, Interval]) -> bool:
    kept = [model.items.get(column.question) for model in (best[0], other[0])]
    if kept[0] is not None and kept[1] is not None:
        try:
            found = compare([kept[0]], [kept[1]]).metrics.get(column.metric)
        except UserError:
            return False  # of other items
        if found is not None:
            return found.is_sure and found.difference.value > 0
    sizes = [model.evaluations[column.question].num_images for model, _ in (best, other)]
    return sizes[0] == sizes[1] and best[1].low > other[1].high


def _score_heads(columns: Sequence[Column]) -> list[Head]:
    short = {column: _short_data(column.question[1]) for column in columns}
    count = Counter((short[own], own.question[0], *own.question[2:], own.metric) for own in columns)
    heads = []
    for column in columns:
        task, data, split, settings = column.question
        one = count[short[column], task, split, settings, column.metric] == 1
        about = [task.replace("_", " "), short[column] if one else data, "" if split == "all" else split, settings]
        heads.append(Head(_label(column), ", ".join(filter(None, about))))
    return heads


def _label(column: Column) -> str:
    known: dict[str, str] = getattr(task_kinds().get(column.question[0]), "labels", {})
    return known.get(column.metric, column.metric.replace("_", " "))


def _short_data(data: str) -> str:
    """`folder:photos` of `folder:/a/long/way/photos`."""
    kind, sign, place = data.rpartition(":")
    return f"{kind}{sign}{Path(place).name}" if place else data


def _score_cell(own: Interval | float | None, is_best: bool) -> Cell:
    if own is None:
        return Cell()
    text = own.percent() if isinstance(own, Interval) else f"{100 * own:.1f}"
    return Cell(text, value_of(own), is_best)


def _cost_cell(record: CostResult | None, cost: Cost) -> Cell:
    value = amount(record, cost)
    if record is None or value is None:
        return Cell()
    text = f"{value:,.1f} {cost.unit}" if cost.unit else short_count(int(value))
    return Cell(f"{text} {BUSY}" if cost is TIMED and record.provenance.is_busy else text, value)


def _plots(models: Sequence[Standing], columns: Sequence[Column], costs: Sequence[Cost]) -> list[tuple[str, str]]:
    """The score that most models have over each cost that was measured of at least two of them."""
    column = max(columns, key=lambda column: sum(score(model, column) is not None for model in models))
    head = _score_heads([column])[0]
    plots = []
    for cost in costs:
        points = [
            Point(model.name, value, own if isinstance(own, Interval) else Interval(value=own, low=own, high=own))
            for model in models
            if (value := amount(model.cost, cost)) is not None and (own := score(model, column)) is not None
        ]
        if len(points) > 1:
            unit = f", {cost.unit}" if cost.unit else ""
            title = f"{head.label} ({head.about}) over {cost.label}"
            plots.append(
                (
                    title,
                    pareto_plot(points, x_label=f"{cost.label}{unit}", y_label=f"{head.label}, percent", title=title),
                )
            )
    return plots


def _notes(models: Sequence[Standing], columns: Sequence[Column]) -> list[str]:
    """What keeps numbers of one column from being compared."""
    notes = []
    machines = sorted({model.cost.provenance.hardware for model in models if model.cost is not None})
    if len(machines) > 1:
        notes.append(f"latency was measured on several machines: {'; '.join(machines)}")
    for question in dict.fromkeys(column.question for column in columns):
        results = [model.evaluations[question] for model in models if question in model.evaluations]
        sizes = sorted({result.num_images or result.num_captions for result in results})
        if len(sizes) > 1:
            counts = ", ".join(f"{size:,}" for size in sizes)
            notes.append(f"{question[0]} on {question[1]} was measured on different numbers of items: {counts}")
        if len({result.protocol.hash for result in results if result.protocol is not None}) > 1:
            notes.append(
                f"{question[0]} on {question[1]} was asked in different words: class names or templates differ"
            )
    return notes
