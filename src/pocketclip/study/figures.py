"""A study's pictures: error against what cells took and had, with the front, laws, and levels over budgets."""

import re
from collections.abc import Sequence
from dataclasses import replace

from pocketclip.records import Interval
from pocketclip.report.amounts import duration, short_count
from pocketclip.report.chart import SERIES_COLOURS, Chart, Line, Mark, legend_rows, y_range
from pocketclip.report.pareto import Point, pareto_front
from pocketclip.study.best import budget_axis, macs
from pocketclip.study.effects import blocks
from pocketclip.study.laws import Law, law_lines
from pocketclip.study.names import as_text
from pocketclip.study.scored import Axis, Cell, Cells

MOST_POINTS = 200
"""That a chart shows; more would be a blot, and slow to open."""
_MOST_SERIES = len(SERIES_COLOURS)
_MOST_TRENDS, _MOST_PLACES = 5, 24
_AMOUNTS = (
    ("compute", "compute of the training, MACs", "compute"),
    ("samples", "samples seen", "samples seen"),
    ("minutes", "minutes of a run", "time of a run"),
    ("parameters", "parameters", "parameters"),
    ("latency", "latency of a picture and a sentence, ms", "latency"),
)
"""What a front is drawn over: attribute of a cell, label of the axis, words of the title."""


def study_charts(cells: Cells, laws: Sequence[Law] = ()) -> list[Chart]:
    """Every chart that the study has numbers for, all of one range of errors."""
    if len(cells) < 2:
        return []
    charts = [chart for amount in _AMOUNTS if (chart := _against(cells, *amount, laws)) is not None]
    compute = {cell.compute for cell in cells}
    if None not in compute and len(compute) > 1:  # what it took is told by compute already
        charts = [chart for chart in charts if chart.slug not in ("minutes", "samples")]
    charts += _trends(cells)
    shown = [mark.y for chart in charts for mark in chart.marks]
    shown += [own for chart in charts for line in chart.lines if line.kind == "mean" for own in line.y]
    lines = max((len(legend_rows(chart.series)) for chart in charts if len(chart.series) > 1), default=0)
    return [replace(chart, y_range=y_range(shown), legend_lines=lines) for chart in charts]


def colour_axis(cells: Cells) -> Axis | None:
    """The axis that colours stand for: the first of things that are not more or less of one."""
    few = [axis for axis in cells.axes if len(axis.levels) <= _MOST_SERIES]
    return next((axis for axis in few if not axis.is_scale), few[0] if few else None)


def thinned(cells: Sequence[Cell], kept: Sequence[Cell] = ()) -> list[Cell]:
    """As many as a chart shows: those `kept`, and every so many of the others from the best to the worst."""
    if len(cells) <= MOST_POINTS:
        return list(cells)
    held = {id(cell) for cell in kept}
    others = sorted((cell for cell in cells if id(cell) not in held), key=lambda cell: cell.error.value)
    room = max(2, MOST_POINTS - len(kept))
    places = {round(number * (len(others) - 1) / (room - 1)) for number in range(room)}
    return [*kept, *(others[place] for place in sorted(places))]


def about(cells: Cells, cell: Cell) -> str:
    """A point in words: its name, error, cost and settings, a line each."""
    row, error = cell.row, percent(cell.error)
    sure = f" [{error.low:.1f}, {error.high:.1f}]" if error.low < error.high else ""
    costs = [
        "" if cell.compute is None else macs(cell.compute),
        f"{row.samples_seen:,} samples",
        "" if cell.parameters is None else f"{short_count(int(cell.parameters))} parameters",
        "" if cell.latency is None else f"latency {cell.latency:.3g} ms",
        "" if cell.minutes is None else duration(60 * cell.minutes),
    ]
    settings = [f"{key}={as_text(value)}" for key, value in row.set.items()]
    lines = [row.name, f"error {error.value:.1f}{sure} %", " · ".join(filter(None, costs)), row.recipe, *settings]
    return "\n".join(line if len(line) <= 160 else f"{line[:159]}…" for line in lines)


def percent(own: Interval) -> Interval:
    """A share's interval in percent."""
    return Interval(value=100 * own.value, low=100 * own.low, high=100 * own.high)


def _series(cells: Cells) -> tuple[list[str], dict[int, int]]:
    """Names of the colours, and each cell's."""
    axis = colour_axis(cells)
    if axis is not None:
        known = [cell for cell in cells if cell.row.levels.get(axis.name) in axis.levels]
        return list(axis.levels), {id(cell): axis.levels.index(cell.row.levels[axis.name]) for cell in known}
    if 1 < len(cells) <= _MOST_SERIES:
        return [cell.name for cell in cells], {id(cell): number for number, cell in enumerate(cells)}
    return [], {}


def front_of(cells: Sequence[Cell], attribute: str) -> list[Cell]:
    """The cells that none beats in both error and a cost, by their cost."""
    points = {str(n): cell for n, cell in enumerate(cells)}
    scored = [Point(n, getattr(own, attribute), Interval(value=-own.error.value, low=0, high=0))
              for n, own in points.items()]  # fmt: skip
    return [points[point.name] for point in pareto_front(scored)]


def _against(cells: Cells, attribute: str, label: str, words: str, laws: Sequence[Law]) -> Chart | None:
    """Error over something that cells took, with the front of those that none beats in both."""
    known = [cell for cell in cells if getattr(cell, attribute)]
    amounts = {getattr(cell, attribute) for cell in known}
    if len(amounts) < 2:
        return None
    front = front_of(known, attribute)
    series, colours = _series(cells)
    shown = thinned(known, front)
    marks = [
        Mark(getattr(cell, attribute), percent(cell.error), colours.get(id(cell), 0), about(cells, cell),
             is_faint=len(known) > _MOST_SERIES and cell not in front)
        for cell in shown
    ]  # fmt: skip
    far = max(amounts)
    lines = [Line([*(getattr(cell, attribute) for cell in front), far],
                  [percent(cell.error) for cell in (*front, front[-1])], None, "front")]  # fmt: skip
    if attribute == "compute":
        lines += law_lines(laws, colours)
    note = "" if len(shown) == len(known) else f"{len(shown)} of {len(known):,} cells are shown, the front among them."
    numbered = [shown.index(cell) for cell in front] if len(known) > _MOST_SERIES else []
    return Chart(attribute, f"Error against {words}", label, y_label(cells), series, marks, lines, note=note,
                 numbered=numbered)  # fmt: skip


def y_label(cells: Cells) -> str:
    """What errors are of."""
    return f"error: 100 − {cells.label}, percent"


def _trends(cells: Cells) -> list[Chart]:
    """Each axis of a few levels over the budgets or amounts of data: means over all other axes."""
    scales = [axis for axis in cells.axes if axis.is_scale]
    over, colours = budget_axis(cells), colour_axis(cells)
    if over is None or colours is None:
        return []
    pairs = [(own, colours) for own in scales if own.name != colours.name]
    pairs += [(over, own) for own in cells.axes
              if own.name not in (over.name, colours.name) and len(own.levels) <= _MOST_SERIES]  # fmt: skip
    wanted = pairs[:_MOST_TRENDS] or [(over, over)]
    return [_trend(cells, scale, axis) for scale, axis in wanted]


def _trend(cells: Cells, scale: Axis, axis: Axis) -> Chart:
    known = scale.amounts or [float(number) for number in range(1, len(scale.levels) + 1)]
    every = -(-len(known) // _MOST_PLACES)
    places = list(zip(known, scale.levels, strict=True))[::every]
    if scale is axis:  # nothing to tell apart but the scale itself
        axis = Axis(scale.name, ["all"])
    low, high = min(known), max(known)
    marks, lines = [], []
    groups = {own: _groups(cells, scale, own, axis) for _, own in places}
    for number, level in enumerate(axis.levels):
        offset = (number - (len(axis.levels) - 1) / 2) * 0.012  # so that intervals stand side by side
        x, means = [], []
        for place, own in places:
            if group := groups[own].get(level):
                mean = percent(cells.mean_error(group))
                x.append(place * (high / low) ** offset if high >= 4 * low else place + offset * (high - low))
                means.append(mean)
                words = f"{level if axis.name != scale.name else scale.name}, {scale.name} {own}"
                marks.append(Mark(x[-1], mean, number, f"{words}\nmean error {mean.value:.1f} [{mean.low:.1f}, "
                                  f"{mean.high:.1f}] % of {len(group)} cells"))  # fmt: skip
        lines.append(Line(x, means, number, "mean"))
    title = f"Error against {scale.name}" + (f", by {axis.name}" if axis.name != scale.name else "")
    slug = re.sub(r"[^a-z0-9]+", "-", f"{axis.name}-by-{scale.name}".lower()).strip("-")
    unit = scale.unit
    ticks = [(place, own.removesuffix(unit).strip()) for place, own in places]
    return Chart(slug, title, f"{scale.name}, {unit}" if unit else scale.name, y_label(cells), axis.levels, marks,
                 lines, ticks=ticks)  # fmt: skip


def _groups(cells: Cells, scale: Axis, place: str, axis: Axis) -> dict[str, list[Cell]]:
    """The cells at a place of a scale by their level on an axis.

    Only those whose other levels every level has, so that means differ by the level alone; all where there are none.
    """
    here = [cell for cell in cells if cell.row.levels.get(scale.name) == place]
    if axis.name == scale.name:
        return {"all": here}
    found = list(blocks(here, axis).values())
    present = {name for block in found for name in block}
    whole = [block for block in found if set(block) == present] or found
    return {level: [block[level] for block in whole if level in block] for level in axis.levels}
