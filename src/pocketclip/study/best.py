"""The best recipe of each budget, as a line to type, and which others may be as good."""

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from pocketclip.report.amounts import duration, short_count
from pocketclip.study.grid import is_of_study
from pocketclip.study.names import as_text
from pocketclip.study.record import RowResult, StudyRecord
from pocketclip.study.scored import BUDGET, Axis, Cell, Cells

NUM_BUDGETS = 4
"""That are made of what cells took, where the study names none."""
_APART = 1.5
"""What the dearest cell takes over the cheapest, from which there is more than one budget."""


@dataclass(frozen=True)
class BestRecipe:
    """The best cell of those within a budget."""

    budget: str
    cell: Cell
    num_cells: int
    rivals: Sequence[Cell]
    """Others whose errors are not surely higher, the best first."""
    command: str


def best_recipes(cells: Cells) -> list[BestRecipe]:
    """One for each budget of the study, or for each of a few that spread over what its cells took."""
    found = []
    for name, group in _budgets(cells):
        best, *others = sorted(group, key=lambda cell: cell.error.value)
        rivals = [cell for cell in others if not _is_surely_worse(cells, best, cell, len(others))]
        found.append(BestRecipe(name, best, len(group), rivals, train_command(cells.record, best.row)))
    return found


def _is_surely_worse(cells: Cells, best: Cell, other: Cell, num_others: int) -> bool:
    """Whether the difference holds for all others together, since the best was picked among them for its score."""
    coverage = 1 - 0.05 / max(1, num_others)
    if not cells.is_pooled or not best.scores or not other.scores:
        return other.error.low > best.error.high
    seeds = math.hypot(*(cells.seed_half(len(cell.scores), coverage) for cell in (best, other)))
    return other.error.value - best.error.value > math.hypot(
        seeds, NormalDist().inv_cdf((1 + coverage) / 2) * cells.unit_sigma([(best, other)])
    )


def _budgets(cells: Cells) -> list[tuple[str, list[Cell]]]:
    """Budgets with the cells that keep them."""
    axis = next((axis for axis in cells.axes if axis.name == BUDGET), None)
    if axis is not None:
        named: dict[str, list[Cell]] = {level: [] for level in axis.levels}
        for cell in cells:
            named.get(cell.row.levels.get(BUDGET, ""), []).append(cell)
        return [(level, group) for level, group in named.items() if group]
    for attribute, words in (("compute", "MACs"), ("minutes", ""), ("samples", "samples seen")):
        amounts = {id(cell): getattr(cell, attribute) for cell in cells}
        if cells and all(amounts.values()):
            return _spread(cells, amounts, words)
    return [("any", list(cells))] if cells else []


def _spread(cells: Sequence[Cell], amounts: dict[int, float], words: str) -> list[tuple[str, list[Cell]]]:
    low, high = min(amounts.values()), max(amounts.values())
    count = NUM_BUDGETS if high > _APART * low else 1
    budgets: dict[frozenset[int], tuple[str, list[Cell]]] = {}
    for number in range(1, count + 1):
        least = low * (high / low) ** (number / count) * (1 + 1e-9)
        within = [cell for cell in cells if amounts[id(cell)] <= least]
        most = max(amounts[id(cell)] for cell in within)
        name = f"up to {macs(most) if words == 'MACs' else f'{most:,.0f} {words}' if words else duration(60 * most)}"
        budgets.setdefault(frozenset(map(id, within)), (name, within))
    return list(budgets.values())


def macs(amount: float) -> str:
    """`1.2 TMACs`."""
    for unit, size in (("E", 1e18), ("P", 1e15), ("T", 1e12)):
        if amount >= 0.9995 * size:
            return f"{amount / size:.3g} {unit}MACs"
    return f"{short_count(round(amount)).replace(' B', ' G')}MACs" if amount >= 1000 else f"{amount:.0f} MACs"


def train_command(record: StudyRecord, row: RowResult) -> str:
    """The line that trains a row's recipe by itself."""
    changes = [own for own in record.changes if not is_of_study(own)]
    settings = [*changes, *(f"{key}={as_text(value)}" for key, value in row.set.items())]
    options = [f"--set {shlex.quote(setting)}" for setting in settings]
    out = shlex.quote(f"runs/{row.folder}")
    return " \\\n  ".join([f"pocketclip train {shlex.quote(row.recipe)}", *options, f"--out {out}"])


def budget_axis(cells: Cells) -> Axis | None:
    """What other axes are seen over: the budgets, or how much of something there is, data before all else."""
    scales = [axis for axis in cells.axes if axis.is_scale]
    named = [axis for axis in scales if re.search(r"data|size|sample|image|pair|count|subset", axis.name.lower())]
    budgets = [axis for axis in scales if axis.name == BUDGET]
    return next(iter([*budgets, *named, *scales]), None)
