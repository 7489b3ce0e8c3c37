"""One run of a study in its folder: carried out, and read back for the table."""

import gc
import json
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from pocketclip.cost.parameters import parameters_by_part
from pocketclip.errors import Interrupted, UserError, first_line
from pocketclip.evaluate.retrieval import retrieval_ranks
from pocketclip.evaluate.tasks import with_captions
from pocketclip.files import cannot_write, write_atomically
from pocketclip.recipe import Recipe, load_recipe
from pocketclip.records import EvalResult, Interval, RunRecord, read_records
from pocketclip.run import Outcome, train
from pocketclip.stages.watch import Watch

RANKS, PARAMETERS, ERROR = "ranks_val.npz", "parameters.json", "error.txt"


@dataclass(frozen=True)
class Task:
    """A run that is to be carried out."""

    row: str
    seed: int
    recipe: Recipe
    folder: Path
    device: str
    dollars_per_hour: float | None

    def __reduce__(self) -> tuple[Any, ...]:
        """Through a pipe the recipe goes as its values: the class of a generic config cannot be pickled."""
        values = self.recipe.model_dump(mode="json")
        return _unpacked, (self.row, self.seed, values, self.folder, self.device, self.dollars_per_hour)

    @property
    def name(self) -> str:
        """For records, cards and messages."""
        return f"{self.row}, seed {self.seed}"

    @property
    def is_finished(self) -> bool:
        """Whether everything that the table needs is there."""
        return (self.folder / PARAMETERS).is_file()

    def check_is_the_same(self) -> None:
        """A finished run must be one of this very recipe.

        Raises:
            UserError: it is one of another.
        """
        if load_recipe(str(self.folder)) != self.recipe:
            raise UserError(
                f"{self.folder}: was made with another recipe than '{self.name}' has now; delete the folder, or choose "
                "another --out."
            )


def _unpacked(row: str, seed: int, recipe: dict[str, Any], *others: Any) -> Task:
    return Task(row, seed, Recipe.parse(recipe, place="recipe"), *others)


def carry_out(task: Task, watch: Watch) -> str | None:
    """Train, evaluate and keep what the table needs; goes on where an earlier try stopped.

    Returns:
        What went wrong, in one line; None when the run is finished.

    Raises:
        Interrupted: the user asked to stop.
    """
    error_file = task.folder / ERROR
    error_file.unlink(missing_ok=True)
    try:
        outcome = train(
            task.recipe,
            task.folder,
            name=task.name,
            watch=watch,
            resume=True,  # the study's own folder was new, or resuming was asked for
            device=task.device,
            dollars_per_hour=task.dollars_per_hour,
        )
        _keep(outcome)
    except (Interrupted, KeyboardInterrupt):
        raise
    except UserError as error:
        problem = str(error)
    except Exception as error:  # a study goes on with its other runs, whatever befell this one
        problem = f"{type(error).__name__}: {first_line(error)} (all of it in {error_file})"
        if task.folder.is_dir():
            error_file.write_text(traceback.format_exc(), encoding="utf-8")
    else:
        return None
    finally:
        gc.collect()  # a model's reference cycles would keep its weights beside the next run's
    return " ".join(problem.splitlines())


def _keep(outcome: Outcome) -> None:
    """Ranks of single queries, and the model's size; the latter last, because it says that all is there."""
    folder, val = outcome.folder, outcome.splits["val"]
    if val.result.task == "retrieval":
        embeddings, _ = with_captions(val.embeddings)
        ranks = retrieval_ranks(embeddings.images, embeddings.texts, embeddings.text_images)
        try:
            np.savez_compressed(
                folder / RANKS,
                text_to_image=ranks.text_to_image.astype(np.int32),
                image_to_text=ranks.image_to_text.astype(np.int32),
                text_images=ranks.text_images.astype(np.int32),
            )
        except OSError as error:
            raise cannot_write(folder / RANKS, error) from error
    write_atomically(folder / PARAMETERS, json.dumps(parameters_by_part(outcome.model.model)) + "\n")


@dataclass(frozen=True)
class FinishedRun:
    """What the table takes from a run."""

    seed: int
    record: RunRecord
    evaluations: tuple[EvalResult, ...]
    """Of the validation split."""
    parameters: dict[str, int]
    ranks: dict[str, npt.NDArray[np.int64]] | None

    def value(self, metric: str) -> float:
        """One metric of the validation split.

        Raises:
            UserError: the run was not measured so.
        """
        known = self.metrics
        if metric not in known:
            raise UserError(f"metrics: {metric} was not measured on val. Known: {', '.join(sorted(known))}.")
        return known[metric]

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric of the validation split, and the mean of its recalls."""
        values = {
            name: value.value if isinstance(value, Interval) else float(value)
            for result in self.evaluations
            for name, value in result.metrics.items()
        }
        recalls = [value for name, value in values.items() if "_recall@" in name]
        return {**values, "mean_recall": float(np.mean(recalls))} if recalls else values


def read_finished(folder: Path, seed: int) -> FinishedRun:
    """Read a finished run back.

    Raises:
        UserError: a file is missing or damaged.
    """
    records = read_records(folder)
    run = next((record for record in records if isinstance(record, RunRecord)), None)
    evaluations = tuple(record for record in records if isinstance(record, EvalResult) and record.split == "val")
    ranks = None
    try:
        parameters = json.loads((folder / PARAMETERS).read_text(encoding="utf-8"))
        if (folder / RANKS).is_file():
            with np.load(folder / RANKS, allow_pickle=False) as stored:
                ranks = {name: stored[name].astype(np.int64) for name in stored.files}
    except (OSError, ValueError, BadZipFile) as error:
        raise UserError(f"{folder}: the run is damaged ({first_line(error)}); delete the folder and resume.") from error
    if run is None or not evaluations:
        raise UserError(f"{folder}: the run is damaged (records are missing); delete the folder and resume.")
    return FinishedRun(seed, run, evaluations, parameters, ranks)
