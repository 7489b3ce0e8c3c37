"""The page of a study of towers: the fastest and the best first, accuracy against cost, times as bars, the table."""

from dataclasses import dataclass
from pathlib import Path

from pocketclip.report.page import write_page
from pocketclip.report.pareto import Point, pareto_front, pareto_plot
from pocketclip.study.towers.record import TowersRecord, read_towers
from pocketclip.study.towers.table import COLUMNS, Amount, amounts, ordered, score_of, tower_notes, tower_rows

Y_LABEL = "top-1 of a linear probe, percent"


@dataclass(frozen=True)
class Bar:
    """A tower's time, and its share of the longest one in percent."""

    name: str
    shown: str
    share: float


def write_towers_page(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a study, finished or not, to `study.html` in its folder or elsewhere.

    Raises:
        UserError: no tower is measured yet, or a file is damaged.
    """
    record = read_towers(folder)
    costs = amounts(record)
    return write_page(
        folder / "study.html" if out is None else out,
        "towers.html",
        study=record,
        sentences=towers_headline(record),
        plots=[plot for cost in costs if (plot := _plot(record, cost)) is not None],
        bars=[(cost.label, _bars(record, cost)) for cost in (costs[0], costs[1], costs[3]) if cost.values],
        columns=COLUMNS,
        rows=tower_rows(record),
        notes=tower_notes(record),
    )


def _points(record: TowersRecord, cost: Amount) -> list[Point]:
    scores = {row.name: score for row in record.rows if (score := score_of(row)) is not None}
    return [Point(name, cost.values[name], score) for name, score in scores.items() if name in cost.values]


def towers_headline(record: TowersRecord) -> list[str]:
    """The fastest tower, and of those with a score the best one and the others on the front."""
    measured = [row for row in ordered(record) if row.cost is not None]
    if not measured:
        return []
    first, last = (row.cost.latency_ms_batch_1.median for row in (measured[0], measured[-1]) if row.cost)
    sentences = [f"{measured[0].name} is the fastest of {len(measured)} towers: {first:.1f} ms an image."]
    if len(measured) > 1:
        sentences[0] = f"{sentences[0][:-1]}, where {measured[-1].name} takes {last:.1f}."
    points = _points(record, amounts(record)[0])
    if points:
        best = max(points, key=lambda point: point.score.value)
        told = f"{best.name} tells most pictures apart, {100 * best.score.value:.1f} of 100"
        front = [point.name for point in pareto_front(points) if point is not best]
        sentences.append(f"{told}; none that is as fast beats {', '.join(front)}." if front else f"{told}.")
    return sentences


def _plot(record: TowersRecord, cost: Amount) -> tuple[str, str] | None:
    points = _points(record, cost)
    if len(points) < 2:
        return None
    title = f"Accuracy over {cost.label}"
    return title, pareto_plot(points, x_label=cost.label, y_label=Y_LABEL, title=title)


def _bars(record: TowersRecord, cost: Amount) -> list[Bar]:
    most = max(cost.values.values()) or 1.0  # memory that a process had already is none
    shown = [(row.name, cost.values.get(row.name)) for row in ordered(record)]
    return [
        Bar(
            name, "" if value is None else _three_figures(value), 0.0 if value is None else round(100 * value / most, 1)
        )
        for name, value in shown
    ]


def _three_figures(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}"
