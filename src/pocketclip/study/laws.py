"""Which power laws a study's cells allow: of each series that differs in scale alone, or of the front of all."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pocketclip.records import Interval
from pocketclip.report.chart import Chart, Line, Mark
from pocketclip.study.power_law import PowerLaw, fit_power_law, has_enough_points
from pocketclip.study.scored import Cell, Cells

MOST_LAWS = 8
"""That are fitted: those whose last cell has the least error."""
_MOST_DRAWN = 4
"""Among the cells of a chart."""


@dataclass(frozen=True)
class Law:
    """The error of a series of cells over their compute."""

    name: str
    cells: Sequence[Cell]
    """By their compute."""
    law: PowerLaw
    is_picked: bool = False
    """Whether points are the best of several cells: by chance, too, so that the law promises too little error."""

    @property
    def ends(self) -> tuple[float, float]:
        """Compute of the first and the last point."""
        return self.cells[0].compute or 0.0, self.cells[-1].compute or 0.0


def fit_laws(cells: Cells) -> list[Law]:
    """A law for each series of cells that share all levels but those of scales, the best first.

    Of cells at about one compute only the best is a point. Where no series has enough points, the front of all cells
    may have: those that no cheaper cell beats.
    """
    series: dict[str, list[Cell]] = defaultdict(list)
    scales = {axis.name for axis in cells.axes if axis.is_scale}
    varied = {axis.name for axis in cells.axes} - scales
    for cell in cells:
        if cell.compute is not None:
            name = ", ".join(level for axis, level in cell.row.levels.items() if axis in varied)
            series[name].append(cell)
    groups = {name: _best_at_each(own) for name, own in series.items()}
    fitting = {name: own for name, own in groups.items() if has_enough_points([_compute(cell) for cell in own])}
    if not fitting:
        series["the front"] = [cell for own in series.values() for cell in own]
        front = _falling(_best_at_each(series["the front"]))
        fitting = {"the front": front} if has_enough_points([_compute(cell) for cell in front]) else {}
    ordered = sorted(fitting.items(), key=lambda own: own[1][-1].error.value)[:MOST_LAWS]
    return [
        Law(name or "all cells", own, fit_power_law([_compute(cell) for cell in own], [cell.error for cell in own]),
            is_picked=len(own) < len(series[name]))
        for name, own in ordered
    ]  # fmt: skip


def law_lines(laws: Sequence[Law], colours: Mapping[int, int]) -> list[Line]:
    """The laws as lines with bands, in the colour of their cells where all have one."""
    lines = []
    for law in laws[:_MOST_DRAWN]:
        low, high = law.ends
        x = np.geomspace(low, high, 40).tolist()
        own = {colours.get(id(cell)) for cell in law.cells}
        lines.append(Line(x, [_percent(law.law.at(place)) for place in x], own.pop() if len(own) == 1 else None, "law"))
    return lines


def residual_chart(laws: Sequence[Law]) -> Chart | None:
    """How far the points lie off their laws."""
    marks = []
    for number, law in enumerate(laws):
        for cell, residual in zip(law.cells, law.law.residuals, strict=True):
            off = 100 * residual
            own = Interval(value=off, low=off, high=off)
            marks.append(Mark(_compute(cell), own, number, f"{cell.name}\n{off:+z.1f} % off the law of {law.name}"))
    if not marks:
        return None
    most = 1.15 * max(abs(mark.y.value) for mark in marks) or 1.0
    names = [law.name for law in laws]
    return Chart("residuals", "Residuals of the laws", "compute of the training, MACs", "off the law, percent of it",
                 names, marks, y_range=(-most, most))  # fmt: skip


def _percent(own: Interval) -> Interval:
    return Interval(value=100 * own.value, low=max(0.0, 100 * own.low), high=min(100.0, 100 * own.high))


def _compute(cell: Cell) -> float:
    return cell.compute or 0.0


def _best_at_each(cells: Sequence[Cell]) -> list[Cell]:
    """The best cell at each compute, by compute; what differs by a hundredth is one."""
    best: list[Cell] = []
    for cell in sorted(cells, key=_compute):
        if best and _compute(cell) < 1.01 * _compute(best[-1]):
            best[-1] = min(best[-1], cell, key=lambda own: own.error.value)
        else:
            best.append(cell)
    return best


def _falling(cells: Sequence[Cell]) -> list[Cell]:
    front: list[Cell] = []
    for cell in cells:
        if not front or cell.error.value < front[-1].error.value:
            front.append(cell)
    return front
