"""Every task that a model is measured on, one a file: commands, tables, cards and studies know them from here."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pocketclip.config import kinds_of, with_registered
from pocketclip.embedder import Embedder
from pocketclip.errors import UserError, unknown_choice
from pocketclip.evaluate.task import EmbeddingTask, Task, TaskData
from pocketclip.evaluate.tasks.fine_tuning import FineTuning
from pocketclip.evaluate.tasks.folds import Folds
from pocketclip.evaluate.tasks.linear_probe import LinearProbe
from pocketclip.evaluate.tasks.nlvr2 import Nlvr2
from pocketclip.evaluate.tasks.retrieval import Retrieval
from pocketclip.evaluate.tasks.text_probe import TextProbe
from pocketclip.records import EvalResult
from pocketclip.stages.watch import SILENT, Watch

Tasks = Retrieval | Folds | Nlvr2 | LinearProbe | FineTuning | TextProbe
"""The registry: a new task is a file here, and its class in this line."""
if not TYPE_CHECKING:
    Tasks = with_registered(Tasks, "pocketclip.tasks")


class UnknownTask(Task):
    """A task of another version, known from its record alone: a row for each score that has an interval."""

    def run(self, model: Embedder, data: TaskData, watch: Watch = SILENT) -> EvalResult:
        """Not known how."""
        raise unknown_choice("task", self.kind, task_kinds())


def task_kinds() -> dict[str, type[Task]]:
    """Every task by its name."""
    return kinds_of(Tasks)


def task_of(result: EvalResult) -> Task:
    """The task that a record is of, to show it with."""
    kinds = task_kinds()
    return kinds[result.task]() if result.task in kinds else UnknownTask(kind=result.task)


def embedding_task(kind: str) -> EmbeddingTask:
    """A task over embeddings by its name, with its own settings: what training measures a split with.

    Raises:
        UserError: no such task, or one that does not go by embeddings.
    """
    kinds = {name: task for name, task in task_kinds().items() if issubclass(task, EmbeddingTask)}
    if kind not in kinds:
        raise unknown_choice("task over embeddings", kind, kinds)
    return kinds[kind]()


def settings_of(kind: str) -> list[str]:
    """What can be set of a task."""
    return sorted(task_kinds()[kind].model_fields.keys() - {"kind"})


def make_tasks(kinds: Sequence[str], changes: Mapping[str, Any], options: Mapping[str, Any] = {}) -> list[Task]:
    """Tasks by their names, each with those of the settings that it has.

    Args:
        kinds: names.
        changes: from `--set`; each must be a setting of one of the tasks.
        options: further settings, for the tasks that have them; `changes` win.

    Raises:
        UserError: no such task, a setting that none of them has, or a value that does not fit.
    """
    for kind in kinds:
        if kind not in task_kinds():
            raise unknown_choice("task", kind, task_kinds())
    known = {kind: settings_of(kind) for kind in kinds}
    for key in changes:
        if not any(key in own for own in known.values()):
            raise _without_effect(key, known)
    values = {**options, **changes}
    return [
        task_kinds()[kind].parse({key: values[key] for key in known[kind] if key in values}, place="--set")
        for kind in kinds
    ]


def _without_effect(key: str, known: Mapping[str, Sequence[str]]) -> UserError:
    """The error for a setting that no asked task has."""
    owners = [kind for kind in task_kinds() if key in settings_of(kind)]
    if owners:
        return UserError(f"--set: has no effect on {', '.join(known)}; it is for {', '.join(owners)}.")
    settings = {key for own in known.values() for key in own}
    reason = f"u{str(unknown_choice('setting', key, settings))[1:]}" if settings else "no task has such a setting."
    return UserError(f"--set: has no effect on {', '.join(known)}: {reason}")


__all__ = [
    "EmbeddingTask",
    "FineTuning",
    "Folds",
    "LinearProbe",
    "Nlvr2",
    "Retrieval",
    "Task",
    "TaskData",
    "TextProbe",
    "embedding_task",
    "make_tasks",
    "settings_of",
    "task_kinds",
    "task_of",
]
