"""From a cell to its recipe: settings over the base, and which cells no run can come of."""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pocketclip.config import apply_setting, explain, problems_of
from pocketclip.errors import UserError
from pocketclip.recipe import Recipe, read_recipe
from pocketclip.study.axes import Axis, Cell


@dataclass(frozen=True)
class Placed:
    """A row or cell, and what it starts from."""

    name: str
    slug: str
    recipe_name: str
    settings: Mapping[str, Any]
    levels: Mapping[str, str]
    """Where a cell stands on each axis."""


@dataclass(frozen=True)
class Left(Placed):
    """A cell that is not trained."""

    reason: str


@dataclass(frozen=True)
class Row(Placed):
    """A row whose recipe is whole."""

    recipe: Recipe
    """With the study's first seed."""

    def with_seed(self, seed: int) -> Recipe:
        """The recipe of one run."""
        return self.recipe.model_copy(update={"seed": seed})

    def left(self, reason: str) -> Left:
        """The same, not trained."""
        return Left(self.name, self.slug, self.recipe_name, self.settings, self.levels, reason)


def check_settings(cells: Sequence[Cell], changes: Sequence[str], path: Path) -> None:
    """Refuse changes that no cell would keep, and settings that are not a cell's to make."""
    for change in changes:
        key = change.partition("=")[0].strip()
        if key == "seed":
            raise UserError(f"--set {change}: a study trains every row with its seeds; use --set seeds=[0].")
        if all(any(f"{own}.".startswith(f"{key}.") or f"{key}.".startswith(f"{own}.") for own in cell.set)
               for cell in cells):  # fmt: skip
            raise UserError(f"--set {change}: has no effect, because every row of {path} sets {key} itself.")
    for cell in cells:
        for key in cell.set:
            place = f"{path}: {cell.title}: set: '{key}'"
            if key == "seed":
                raise UserError(f"{place} is the study's; give it seeds.")
            if not re.fullmatch(r"\w+(\.\w+)*", key):
                raise UserError(f"{place} should be a dotted key such as train.augment.")


class RecipeReader:
    """Reads each base once, however many cells start from it."""

    def __init__(self, path: Path, base: str | None, changes: Sequence[str], seed: int) -> None:
        self.path, self.base, self.changes, self.seed = path, base, changes, seed
        self.left: list[Left] = []
        self._bases: dict[str, tuple[Path, dict[str, Any]]] = {}
        self._same: dict[str, str] = {}
        self._unread: dict[str, dict[str, str]] = {}

    def name_of(self, cell: Cell) -> str:
        """Of the recipe that a cell starts from."""
        name = cell.recipe or self.base
        assert name is not None  # checked by the config
        return name

    def read(self, cell: Cell) -> Row | None:
        """The row with its whole recipe; None for a cell of a grid that no run can come of, which is then in `left`.

        Raises:
            UserError: a row's recipe is refused, or is that of another row.
        """
        values, recipe, reason = self._values(cell), None, ""
        placed = cell.name, cell.slug, self.name_of(cell), cell.set, cell.levels
        try:
            recipe = Recipe.model_validate(values)
        except ValidationError as error:
            if not cell.levels:
                lines = explain(error, str(self._bases[self.name_of(cell)][0]), Recipe).splitlines()
                raise UserError("\n".join(f"{self.path}: {cell.title}: {line}" for line in lines)) from None
            problems = problems_of(error, Recipe)
            self._unread[cell.name] = {each.key: f"{each.key}: {each.reason}" for each in problems if each.is_unknown}
            reason = "; ".join(f"{each.key}: {each.reason}" for each in problems)
        if recipe is not None:
            twin = self._same.setdefault(recipe.fingerprint(), cell.name)
            if twin != cell.name and not cell.levels:
                raise UserError(f"{self.path}: rows '{twin}' and '{cell.name}' are the same run; leave one out.")
            if twin == cell.name:
                return Row(*placed, recipe)
            reason = f"is the same run as '{twin}'"
        self.left.append(Left(*placed, reason))
        return None

    def check_levels(self, cells: Sequence[Cell], axes: Mapping[str, Axis]) -> None:
        """Refuse a level that sets what no recipe reads, in whatever company, and a grid of which nothing is left."""
        by_level: dict[tuple[str, str], list[Cell]] = {}
        for cell in cells:
            for place in cell.levels.items():
                by_level.setdefault(place, []).append(cell)
        reasons = {cell.name: cell.reason for cell in self.left}
        for (axis, level), theirs in by_level.items():
            if any(cell.name not in self._unread for cell in theirs):
                continue
            for key, line in self._unread[theirs[0].name].items():
                own = any(key == setting or key.startswith(f"{setting}.") for setting in axes[axis][level])
                if own and all(key in self._unread[cell.name] for cell in theirs):
                    raise UserError(f"{self.path}: axis '{axis}': level '{level}': {line}")
        if cells and len(reasons) == len(cells):
            name, reason = next(iter(reasons.items()))
            raise UserError(f"{self.path}: none of {len(cells)} cells can be trained; the first, '{name}': {reason}")

    def _values(self, cell: Cell) -> dict[str, Any]:
        name = self.name_of(cell)
        try:
            if name not in self._bases:
                beside = self.path.parent / name
                self._bases[name] = read_recipe(str(beside) if beside.is_file() else name, self.changes)
            values = copy.deepcopy(self._bases[name][1])
            for key, value in cell.set.items():
                apply_setting(values, key, copy.deepcopy(value), said=f"set: {key}")
            # A study compares on val, and leaves test for the end
            for key, value in {"data.test": None, "seed": self.seed}.items():
                apply_setting(values, key, value, said=f"set: {key}")
        except UserError as error:
            lines = str(error).splitlines()
            raise UserError("\n".join(f"{self.path}: {cell.title}: {line}" for line in lines)) from error
        return values
