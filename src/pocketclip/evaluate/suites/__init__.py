"""Suites: data sets with the task that each is for, as YAML; those that papers report are shipped here.

A suite names sets, not paths: each is looked for below one folder by the names it comes unpacked under.
"""

import operator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, model_validator

from pocketclip.config import Config
from pocketclip.errors import UserError, unknown_choice
from pocketclip.evaluate.tasks import Task, make_tasks

_FOLDER = files(__name__)


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_several)]
"""One text stands for a list of it."""


class SuiteSet(Config):
    """One data set of a suite, and what is measured on it."""

    name: str
    """Its record is called so; unique in the suite."""
    title: str = ""
    """As papers call it, where that is not the name."""
    task: str = ""
    settings: dict[str, Any] = {}
    """Of the task."""
    folders: Texts = ()
    """Below the root, in the order they are looked for; case, `-`, `_` and spaces in their names do not matter."""
    data: str = ""
    """`KIND:PLACE`, places below the set's folder. Empty: shards where some lie there, else a folder for each class."""
    npy: Annotated[Texts, Field(exclude_if=operator.not_)] = ()
    """What the numbers of `KEY.npy` in its shards are called, in their order."""
    train_folders: Texts = ()
    """Of what a probe learns from; empty for four fifths of the set."""
    score: Texts = ()
    """The metric that a mean over sets takes, or several, whose mean it takes."""
    groups: Texts = ()
    """Means over some sets that this one counts in."""
    unmeasured: str = ""
    """Why it cannot be measured here, though it belongs to the suite."""

    @model_validator(mode="after")
    def _is_measured_or_not(self) -> "SuiteSet":
        missing = [key for key in ("task", "folders", "score") if not getattr(self, key)]
        if missing and not self.unmeasured:
            raise ValueError(f"the set {self.name} needs {', '.join(missing)}; or unmeasured, which says why not")
        return self

    @property
    def called(self) -> str:
        """For people."""
        return self.title or self.name

    def make_task(self, settings: dict[str, Any], place: str) -> Task:
        """What is run on it, with further `settings`.

        Raises:
            UserError: there is no such task or setting.
        """
        try:
            (task,) = make_tasks([self.task], {**settings, **self.settings}, {"against_start": False})
        except UserError as error:
            raise UserError(f"{place}: {self.name}: {error}") from error
        return task


class Suite(Config):
    """Several data sets."""

    title: str
    average: str = ""
    """What the mean of all scores is called; empty where none is published."""
    sets: Annotated[tuple[SuiteSet, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> "Suite":
        names = [one.name for one in self.sets]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the name {twice[0]} stands for several sets")
        return self


def suite_names() -> list[str]:
    """Every suite that is known by name."""
    return sorted(Path(file.name).stem for file in _FOLDER.iterdir() if file.name.endswith(".yaml"))


def read_suite(name: str) -> Suite:
    """A suite by its name or its file, with every task and setting checked.

    Raises:
        UserError: there is none, or it is not right.
    """
    file = Path(name)
    if name in suite_names() and not file.is_file():
        text = (_FOLDER / f"{name}.yaml").read_text("utf-8")
    elif file.is_file():
        text = file.read_text("utf-8")
    else:
        raise unknown_choice("suite or file of one", name, suite_names())
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{name}: not valid YAML ({error}).") from error
    suite = Suite.parse(values, place=name)
    for one in suite.sets:
        if not one.unmeasured:
            one.make_task({}, name)
    return suite
