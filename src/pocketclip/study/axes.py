"""Axes of a study: named levels with their settings, and the grid of cells that they span."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Annotated, Any

from pydantic import BeforeValidator

from pocketclip.study.names import cell_slug, level_name, level_slugs, slug

Settings = dict[str, Any]
"""Of a recipe, by dotted key."""
BUDGET_AXIS, BUDGET_KEY = "budget", "train.budget"
MAX_CELLS = 100_000
"""More are a slip of the pen; 10,000 are planned in seconds."""


def _named_levels(axis: Any) -> Any:
    """An axis as a mapping of levels to settings, however it was written."""
    if not isinstance(axis, dict):
        return axis
    if axis.keys() == {"key", "values"} and isinstance(axis["key"], str) and isinstance(axis["values"], list):
        names = [level_name(value) for value in axis["values"]]
        twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
        if twice is not None:
            raise ValueError(f"holds the level '{twice}' twice")
        return {name: {axis["key"]: value} for name, value in zip(names, axis["values"], strict=True)}
    return {level_name(name): {} if settings is None else settings for name, settings in axis.items()}


Axis = Annotated[dict[str, Settings], BeforeValidator(_named_levels)]
"""Levels by name, or `{key: dotted.key, values: [...]}` for levels that are called by their value."""


def _list_of_budgets(budget: Any) -> Any:
    return [budget] if isinstance(budget, dict) else budget


Budgets = Annotated[tuple[dict[str, Any], ...], BeforeValidator(_list_of_budgets)]
"""One for every cell, or several, which are one more axis."""


@dataclass(frozen=True)
class Cell:
    """One row of the table before its recipe is read."""

    name: str
    slug: str
    recipe: str | None
    """In the place of the study's `base`."""
    set: Settings
    levels: Mapping[str, str] = field(default_factory=dict)
    """Where it stands on each axis; empty for a row that was written out."""

    @property
    def title(self) -> str:
        """For messages."""
        return f"{'cell' if self.levels else 'row'} '{self.name}'"


def row_cell(name: str, recipe: str | None, settings: Settings) -> Cell:
    """A row that was written out."""
    return Cell(name, slug(name), recipe, settings)


def all_axes(axes: Mapping[str, Axis], budgets: Budgets) -> dict[str, Axis]:
    """The axes, with that of several budgets behind them."""
    if len(budgets) < 2:
        return dict(axes)
    names = [", ".join(f"{level_name(amount)} {unit}" for unit, amount in budget.items()) for budget in budgets]
    if len(set(names)) < len(names):
        raise ValueError(f"budget holds one twice: {', '.join(names)}")
    return {**axes, BUDGET_AXIS: {name: {BUDGET_KEY: budget} for name, budget in zip(names, budgets, strict=True)}}


def check_axes(axes: Mapping[str, Axis], budgets: Budgets) -> None:
    """Raise a ValueError where an axis cannot tell cells apart, or one would undo what another does."""
    if BUDGET_AXIS in axes and budgets:
        raise ValueError("axes and budget both name an axis 'budget'; leave one out")
    size = 1
    for name, levels in all_axes(axes, budgets).items():
        if len(levels) < 2:
            raise ValueError(f"axis '{name}' has {len(levels)} level, and nothing to compare; put it into base")
        for (one, settings), (other, same) in combinations(levels.items(), 2):
            if settings == same:
                raise ValueError(f"axis '{name}': levels '{one}' and '{other}' are the same; leave one out")
        level_slugs(name, list(levels))
        size *= len(levels)
    if size > MAX_CELLS:
        raise ValueError(f"axes span {size:,} cells, more than {MAX_CELLS:,}; name fewer levels")
    owners = [(name, {key for settings in levels.values() for key in settings}) for name, levels in axes.items()]
    owners += [(BUDGET_AXIS, {BUDGET_KEY})] if budgets else []
    for (first, keys), (second, others) in combinations(owners, 2):
        if both := sorted(keys & others):
            raise ValueError(f"axes '{first}' and '{second}' both set {both[0]}; join them into one")


def grid(axes: Mapping[str, Axis], budgets: Budgets) -> Iterator[Cell]:
    """Every cell, the last axis changing first; wider settings go before those below them, whatever their axes."""
    whole = all_axes(axes, budgets)
    slugs = {name: dict(zip(levels, level_slugs(name, list(levels)), strict=True)) for name, levels in whole.items()}
    always = {BUDGET_KEY: budgets[0]} if len(budgets) == 1 else {}
    for chosen in product(*whole.values()):
        levels = dict(zip(whole, chosen, strict=True))
        settings = always | {key: value for axis, level in levels.items() for key, value in whole[axis][level].items()}
        ordered = {key: settings[key] for key in sorted(settings, key=lambda key: key.count("."))}  # a stable sort
        folder = cell_slug([slugs[axis][level] for axis, level in levels.items()])
        yield Cell(", ".join(chosen), folder, None, ordered, levels)
