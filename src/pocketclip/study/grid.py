"""A study file: rows, or a grid of cells, that differ from a base recipe in named settings, each with several seeds."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, NonNegativeInt, model_validator

from pocketclip.config import Config
from pocketclip.errors import UserError
from pocketclip.evaluate.tasks import embedding_task
from pocketclip.recipe import read_settings
from pocketclip.shipped_recipes import STUDY_SUFFIX, find_study
from pocketclip.study.axes import Axis, Budgets, Cell, all_axes, check_axes, grid, row_cell
from pocketclip.study.cell_recipes import Left, RecipeReader, Row, check_settings
from pocketclip.study.halving import HalvingConfig, metric_of
from pocketclip.study.names import slug


class RowConfig(Config):
    """One row of the table: what it is called and how it differs from the base."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    recipe: str | None = None
    """In the place of the study's `base`, by name or path."""
    set: dict[str, Any] = {}
    """Settings of the recipe by dotted key, such as `train.learning_rate.heads`."""


class StudyConfig(Config):
    """A study file."""

    base: str | None = None
    """The recipe that rows start from, by name or path; None where every row names one of its own."""
    rows: tuple[RowConfig, ...] = ()
    axes: dict[str, Axis] = {}
    """In the place of rows: every combination of one level of each axis is a cell, which is a row of its own."""
    budget: Budgets = ()
    """Of each cell's run."""
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0, 1, 2)
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ()
    """Columns of the table, all of the validation split; where they are left out, the task's own `scores`."""
    halving: HalvingConfig | None = None
    """End the runs of cells that fall behind; None trains all to the end."""
    latency: bool = True
    """Measure what one picture and one sentence take each model, when all runs are over; a second or two a model."""
    equal_steps: bool = True
    """Whether every row must see as many samples as the others (steps times batch size); cells need not."""

    @model_validator(mode="after")
    def _rows_can_be_told_apart(self) -> Self:
        if self.axes and self.rows:
            raise ValueError("give rows or axes, not both; an axis of named levels does what rows do")
        if not self.rows and not self.axes:  # not a length of rows, which would add a line to every problem inside one
            raise ValueError("rows needs at least one")
        if self.budget and not self.axes:
            raise ValueError("budget is of the cells of axes; in a row, set train.budget")
        if self.axes:
            check_axes(self.axes, self.budget)
            if self.base is None:
                raise ValueError("base is required, because the cells of axes start from it")
        seen: dict[str, str] = {}
        for row in self.rows:
            place = slug(row.name)
            if row.name in seen.values():
                raise ValueError(f"two rows are called '{row.name}'")
            if place in seen:
                raise ValueError(f"rows '{seen[place]}' and '{row.name}' would share the folder {place}; rename one")
            seen[place] = row.name
            if row.recipe is None and self.base is None:
                raise ValueError(f"base is required, because row '{row.name}' names no recipe of its own")
        for what, values in (("seeds", self.seeds), ("metrics", self.metrics)):
            if len(set(values)) < len(values):
                raise ValueError(f"{what} holds a value twice: {', '.join(map(str, values))}")
        return self

    @property
    def needs_equal_samples(self) -> bool:
        """Whether rows that see different numbers of samples are refused."""
        return self.equal_steps if self.rows else self.equal_steps and "equal_steps" in self.model_fields_set

    def cells(self) -> list[Cell]:
        """The rows as they were written out, or the grid."""
        if self.axes:
            return list(grid(self.axes, self.budget))
        return [row_cell(row.name, row.recipe, row.set) for row in self.rows]

    def levels(self) -> dict[str, list[str]]:
        """Of each axis, that of several budgets among them."""
        return {name: list(levels) for name, levels in all_axes(self.axes, self.budget).items()}


@dataclass(frozen=True)
class Study:
    """A study ready to be carried out."""

    name: str
    config: StudyConfig
    changes: tuple[str, ...]
    """Given on the command line: settings of every row's recipe, or of the study."""
    rows: tuple[Row, ...]
    left: tuple[Left, ...] = ()
    """Cells of the grid that are not trained, and why."""


def is_of_study(change: str) -> bool:
    """Whether a `key=value` of the command line changes the study, not its recipes."""
    return re.split(r"[.=]", change.strip(), maxsplit=1)[0] in StudyConfig.model_fields


def load_study(name: str, changes: Sequence[str] = ()) -> Study:
    """Read a study and every recipe in it.

    Of the `changes`, `key=value` as in `load_recipe`, keys of a study file (`seeds=[0]`) change the study, all others
    every row's recipe before the row's own settings, which so remain what tells the rows apart. A cell whose recipe is
    refused is left out with the reason; a row is an error.

    Raises:
        UserError: every problem as `file: key: reason`, with the row's name for one of its recipe.
    """
    path = find_study(name)
    of_study = list(filter(is_of_study, changes))
    of_recipes = [change for change in changes if change not in of_study]
    values = read_settings(path, of_study)
    if "rows" not in values and "axes" not in values:
        raise UserError(f"{path}: rows: is required; without rows or axes this is no study (see docs/studies.md).")
    config = StudyConfig.parse(values, place=str(path))
    cells = config.cells()
    check_settings(cells, of_recipes, path)
    reader = RecipeReader(path, config.base, of_recipes, config.seeds[0])
    rows = tuple(row for cell in cells if (row := reader.read(cell)) is not None)
    reader.check_levels(cells, all_axes(config.axes, config.budget))
    _check_comparable(rows, path)
    if not config.metrics:
        config = config.model_copy(update={"metrics": embedding_task(rows[0].recipe.objective.needs.task).scores})
    if config.halving is not None:
        metric = metric_of(config.halving, rows[0].recipe, str(path))
        config = config.model_copy(update={"halving": config.halving.model_copy(update={"metric": metric})})
    title = path.name.removesuffix(STUDY_SUFFIX).removesuffix(".yaml")
    return Study(title, config, tuple(changes), rows, tuple(reader.left))


def _check_comparable(rows: Sequence[Row], path: Path) -> None:
    """Scores mean something beside each other only on the same pictures."""
    first = rows[0].recipe.data
    for row in rows:
        data = row.recipe.data
        if data.val != first.val or (data.val is None and (data.train, data.hold_out) != (first.train, first.hold_out)):
            raise UserError(
                f"{path}: {'cells' if row.levels else 'rows'} '{rows[0].name}' and '{row.name}' are validated on "
                "different pictures; give both the same data.val."
            )
