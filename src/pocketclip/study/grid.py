"""A study file: rows that differ from a base recipe in named settings, each to be trained with several seeds."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, NonNegativeInt, model_validator

from pocketclip.config import Config
from pocketclip.errors import UserError
from pocketclip.evaluate.tasks import embedding_task
from pocketclip.recipe import Recipe, load_recipe, read_settings
from pocketclip.run.plan import samples_seen
from pocketclip.shipped_recipes import STUDY_SUFFIX, find_study
from pocketclip.stages.watch import SILENT, Watch


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
    rows: tuple[RowConfig, ...]
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0, 1, 2)
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ()
    """Columns of the table, all of the validation split; where they are left out, the task's own `scores`."""
    equal_steps: bool = True
    """Whether every row must see as many samples as the others (steps times batch size)."""

    @model_validator(mode="after")
    def _rows_can_be_told_apart(self) -> Self:
        if not self.rows:  # not a length of the field, which would add a line to every problem inside a row
            raise ValueError("rows needs at least one")
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


def slug(name: str) -> str:
    """A row's folder: its name in lower-case ASCII letters, digits and single dashes; a ValueError without any."""
    if "/" in name or "\\" in name:
        raise ValueError(f"row '{name}': a name becomes a folder, so it cannot hold / or \\")
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    if folder := re.sub(r"[^a-z0-9]+", "-", plain).strip("-"):
        return folder
    raise ValueError(f"row '{name}': a name becomes a folder, so it needs a letter or digit of ASCII")


@dataclass(frozen=True)
class Row:
    """A row whose recipe is whole."""

    name: str
    slug: str
    recipe_name: str
    settings: Mapping[str, Any]
    recipe: Recipe
    """With the study's first seed."""

    def with_seed(self, seed: int) -> Recipe:
        """The recipe of one run."""
        return self.recipe.model_copy(update={"seed": seed})


@dataclass(frozen=True)
class Study:
    """A study ready to be carried out."""

    name: str
    config: StudyConfig
    changes: tuple[str, ...]
    """Given on the command line: settings of every row's recipe, or of the study."""
    rows: tuple[Row, ...]


def load_study(name: str, changes: Sequence[str] = ()) -> Study:
    """Read a study and every recipe in it.

    Of the `changes`, `key=value` as in `load_recipe`, keys of a study file (`seeds=[0]`) change the study, all others
    every row's recipe before the row's own settings, which so remain what tells the rows apart.

    Raises:
        UserError: every problem as `file: key: reason`, with the row's name for one of its recipe.
    """
    path = find_study(name)
    first_keys = {change: re.split(r"[.=]", change.strip(), maxsplit=1)[0] for change in changes}
    of_study = [change for change in changes if first_keys[change] in StudyConfig.model_fields]
    of_recipes = [change for change in changes if change not in of_study]
    values = read_settings(path, of_study)
    if "rows" not in values:
        raise UserError(f"{path}: rows: is required; without rows this is no study (see docs/studies.md).")
    config = StudyConfig.parse(values, place=str(path))
    _check_changes(config, of_recipes, path)
    rows = tuple(_load_row(config, row, of_recipes, path) for row in config.rows)
    _check_comparable(rows, path)
    if not config.metrics:
        config = config.model_copy(update={"metrics": embedding_task(rows[0].recipe.objective.needs.task).scores})
    return Study(path.name.removesuffix(STUDY_SUFFIX).removesuffix(".yaml"), config, tuple(changes), rows)


def _check_changes(config: StudyConfig, changes: Sequence[str], path: Path) -> None:
    for change in changes:
        key = change.partition("=")[0].strip()
        if key == "seed":
            raise UserError(f"--set {change}: a study trains every row with its seeds; use --set seeds=[0].")
        if all(any(f"{own}.".startswith(f"{key}.") or f"{key}.".startswith(f"{own}.") for own in row.set)
               for row in config.rows):  # fmt: skip
            raise UserError(f"--set {change}: has no effect, because every row of {path} sets {key} itself.")
    for row in config.rows:
        for key in row.set:
            place = f"{path}: row '{row.name}': set: '{key}'"
            if key == "seed":
                raise UserError(f"{place} is the study's; give it seeds.")
            if not re.fullmatch(r"\w+(\.\w+)*", key):
                raise UserError(f"{place} should be a dotted key such as train.augment.")


def _load_row(config: StudyConfig, row: RowConfig, changes: Sequence[str], path: Path) -> Row:
    name = row.recipe or config.base
    assert name is not None  # checked by the config
    beside = path.parent / name
    place = str(beside) if beside.is_file() else name
    own = [f"{key}={as_text(value)}" for key, value in row.set.items()]
    always = ["data.test=null", f"seed={config.seeds[0]}"]  # a study compares on val, and leaves test for the end
    try:
        recipe = load_recipe(place, [*changes, *own, *always])
    except UserError as error:
        lines = str(error).splitlines()
        raise UserError("\n".join(f"{path}: row '{row.name}': {line}" for line in lines)) from error
    return Row(row.name, slug(row.name), name, row.set, recipe)


def as_text(value: Any) -> str:
    """A value as `--set` takes it, so that reading it again gives the same value."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _check_comparable(rows: Sequence[Row], path: Path) -> None:
    """Differences mean something only between different runs, and between scores on the same pictures."""
    first = rows[0].recipe.data
    for number, row in enumerate(rows):
        data = row.recipe.data
        if data.val != first.val or (data.val is None and (data.train, data.hold_out) != (first.train, first.hold_out)):
            raise UserError(
                f"{path}: rows '{rows[0].name}' and '{row.name}' are validated on different pictures; give both the "
                "same data.val."
            )
        for other in rows[:number]:
            if row.recipe == other.recipe:
                raise UserError(f"{path}: rows '{other.name}' and '{row.name}' are the same run; leave one out.")


def samples_of_rows(study: Study, watch: Watch = SILENT) -> dict[str, int]:
    """Samples that every row's run sees, by the row's name; opens the data.

    Raises:
        UserError: rows differ and the study does not say `equal_steps: false`, or data cannot be opened.
    """
    seen = {row.name: samples_seen(row.recipe, watch) for row in study.rows}
    if study.config.equal_steps and len(set(seen.values())) > 1:
        listed = ", ".join(f"'{name}' {count:,}" for name, count in seen.items())
        raise UserError(
            f"{study.name}: rows see different numbers of samples (steps x batch size): {listed}. Make them equal with "
            "train.num_steps, or say equal_steps: false."
        )
    return seen
