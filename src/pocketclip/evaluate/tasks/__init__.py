"""Every task that a model is measured on, one a file: commands, tables, cards and studies know them from here."""

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

from pocketclip.config import kinds_of, with_registered
from pocketclip.embedder import Embedder
from pocketclip.errors import UserError, unknown_choice
from pocketclip.evaluate.task import EmbeddingTask, Task
from pocketclip.evaluate.task_data import TaskData
from pocketclip.evaluate.tasks.aro import Aro
from pocketclip.evaluate.tasks.few_shot import FewShot
from pocketclip.evaluate.tasks.fine_tuning import FineTuning
from pocketclip.evaluate.tasks.folds import Folds
from pocketclip.evaluate.tasks.knn import Knn
from pocketclip.evaluate.tasks.linear_probe import LinearProbe
from pocketclip.evaluate.tasks.nlvr2 import Nlvr2
from pocketclip.evaluate.tasks.person_retrieval import PersonRetrieval
from pocketclip.evaluate.tasks.retrieval import Retrieval
from pocketclip.evaluate.tasks.sugarcrepe import Sugarcrepe
from pocketclip.evaluate.tasks.text_probe import TextProbe
from pocketclip.evaluate.tasks.winogavil import Winogavil
from pocketclip.evaluate.tasks.winoground import Winoground
from pocketclip.evaluate.tasks.zero_shot import ZeroShot
from pocketclip.records import EvalResult
from pocketclip.stages.watch import SILENT, Watch

Tasks = (
    Retrieval
    | Folds
    | PersonRetrieval
    | ZeroShot
    | Nlvr2
    | LinearProbe
    | FewShot
    | Knn
    | FineTuning
    | TextProbe
    | Sugarcrepe
    | Winoground
    | Winogavil
    | Aro
)
"""The registry: a new task is a file here, and its class in this line."""
if not TYPE_CHECKING:
    Tasks = with_registered(Tasks, "pocketclip.tasks")


class UnknownTask(Task):
    """A task of another version, known from its record alone: a row for each score that has an interval."""

    def run(self, model: Embedder, data: TaskData, watch: Watch = SILENT) -> EvalResult:
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


def make_tasks(kinds: Sequence[str], changes: Mapping[str, Any], options: Mapping[str, Any] = {}) -> list[Task]:
    """Tasks by their names, each with those of the settings that it has.

    Each of the `changes`, from `--set`, must be a setting of one of the tasks; they win over the `options`.

    Raises:
        UserError: no such task, a setting that none of them has, or a value that does not fit.
    """
    settings = {kind: task.model_fields.keys() - {"kind"} for kind, task in task_kinds().items()}
    for kind in kinds:
        if kind not in settings:
            raise unknown_choice("task", kind, settings)
    for key in changes:
        if not any(key in settings[kind] for kind in kinds):
            raise _without_effect(key, kinds, settings)
    values = {**options, **changes}
    own = {kind: {key: value for key, value in values.items() if key in settings[kind]} for kind in kinds}
    return [task_kinds()[kind].parse(own[kind], place="--set") for kind in kinds]


def _without_effect(key: str, kinds: Sequence[str], settings: Mapping[str, Set[str]]) -> UserError:
    """The error for a setting that no asked task has."""
    what = f"--set: has no effect on {', '.join(dict.fromkeys(kinds))}"
    if owners := [kind for kind, known in settings.items() if key in known]:
        return UserError(f"{what}; it is for {', '.join(owners)}.")
    known = {own for kind in kinds for own in settings[kind]}
    reason = f"u{str(unknown_choice('setting', key, known))[1:]}" if known else "no task has such a setting."
    return UserError(f"{what}: {reason}")


__all__ = ["EmbeddingTask", "Retrieval", "Task", "TaskData", "embedding_task", "make_tasks", "task_kinds", "task_of"]
