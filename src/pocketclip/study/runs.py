"""One run of a study in its folder: carried out, and read back for the table."""

import gc
import json
import traceback
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from pocketclip.cost.parameters import parameters_by_part
from pocketclip.errors import Interrupted, UserError, and_known, first_line
from pocketclip.evaluate.items import Items, read_answers, write_items
from pocketclip.evaluate.statistics import Units
from pocketclip.evaluate.task import EmbeddingTask
from pocketclip.evaluate.task_data import Answers
from pocketclip.evaluate.tasks import embedding_task
from pocketclip.files import write_atomically
from pocketclip.recipe import Recipe, load_recipe
from pocketclip.records import EvalResult, Interval, RunRecord, read_records
from pocketclip.report.gallery import make_gallery, write_gallery
from pocketclip.run.fit import fit_to_data
from pocketclip.run.train import Outcome, train
from pocketclip.stages.watch import Watch

ANSWERS, PARAMETERS, ERROR = "ranks_val.npz", "parameters.json", "error.txt"


@dataclass(frozen=True)
class PlannedRun:
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
        """Raise a UserError where the run in the folder is one of another recipe."""
        if load_recipe(str(self.folder)) != fit_to_data(self.recipe)[0]:
            raise UserError(
                f"{self.folder}: was made with another recipe than '{self.name}' has now; delete the folder, or choose "
                "another --out."
            )


def _unpacked(row: str, seed: int, recipe: dict[str, Any], *others: Any) -> PlannedRun:
    return PlannedRun(row, seed, Recipe.parse(recipe, place="recipe"), *others)


def carry_out(run: PlannedRun, watch: Watch) -> str | None:
    """Train, evaluate and keep what the table needs, or go on where an earlier try stopped.

    Returns what went wrong, in one line, or None when the run is finished. Stopping it raises `Interrupted`.
    """
    error_file = run.folder / ERROR
    error_file.unlink(missing_ok=True)
    try:
        outcome = train(
            run.recipe,
            run.folder,
            name=run.name,
            watch=watch,
            resume=True,  # the study's own folder was new, or resuming was asked for
            device=run.device,
            dollars_per_hour=run.dollars_per_hour,
        )
        _keep(outcome, run)
    except (Interrupted, KeyboardInterrupt):
        raise
    except UserError as error:
        problem = str(error)
    except Exception as error:  # a study goes on with its other runs, whatever befell this one
        problem = f"{type(error).__name__}: {first_line(error)} (all of it in {error_file})"
        if run.folder.is_dir():
            error_file.write_text(traceback.format_exc(), encoding="utf-8")
    else:
        return None
    finally:
        gc.collect()  # a model's reference cycles would keep its weights beside the next run's
    return " ".join(problem.splitlines())


def _keep(outcome: Outcome, run: PlannedRun) -> None:
    """Answers to single questions, pictures, and the model's size; that last, because it says that all is there."""
    folder, val = outcome.folder, outcome.splits["val"]
    task = embedding_task(val.result.task)
    if "captions" in task.needs:
        write_gallery(make_gallery("val", val.source, val.embeddings), folder)
    answers = task.answers(val.embeddings, val.source, outcome.model.judge_pairs)
    ids = task.identities(val.embeddings, val.source)
    record = val.result.model_copy(update={"model": run.name, "seed": run.seed})
    write_items(folder / ANSWERS, Items(record, answers, ids, run.name), elsewhere="--out")
    write_atomically(folder / PARAMETERS, json.dumps(parameters_by_part(outcome.model.model)) + "\n")


@dataclass(frozen=True)
class FinishedRun:
    """What the table takes from a run."""

    seed: int
    record: RunRecord
    evaluations: tuple[EvalResult, ...]
    """Of the validation split."""
    parameters: dict[str, int]
    answers: Answers | None
    """To single questions of that split."""

    @property
    def task(self) -> EmbeddingTask:
        """What it was measured on."""
        return embedding_task(self.evaluations[0].task)

    @cached_property
    def units(self) -> list[Units]:
        """Its scores unit by unit, of each gallery; empty where they were not kept."""
        return [] if self.answers is None else self.task.units(self.answers)

    def value(self, metric: str) -> float:
        """One metric of the validation split; a UserError where the run was not measured so."""
        if metric not in self.metrics:
            raise UserError(f"metrics: {metric} was not measured on val.{and_known(metric, self.metrics)}")
        return self.metrics[metric]

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Every metric of the validation split, and means that records of earlier versions lack."""
        scores = {name: score for result in self.evaluations for name, score in result.metrics.items()}
        values = {name: score.value if isinstance(score, Interval) else score for name, score in scores.items()}
        means = self.task.means.items()
        return values | {name: float(np.mean([values[part] for part in parts])) for name, parts in means}


def read_finished(folder: Path, seed: int) -> FinishedRun:
    """Read a finished run back; a UserError where a file is missing or damaged."""
    records, answers = read_records(folder), None
    run = next((record for record in records if isinstance(record, RunRecord)), None)
    evaluations = tuple(record for record in records if isinstance(record, EvalResult) and record.split == "val")
    try:
        parameters = json.loads((folder / PARAMETERS).read_text(encoding="utf-8"))
        if (folder / ANSWERS).is_file():
            answers, _, _ = read_answers(folder / ANSWERS)
    except (OSError, ValueError, BadZipFile) as error:
        raise UserError(f"{folder}: the run is damaged ({first_line(error)}); delete the folder and resume.") from error
    if run is None or not evaluations:
        raise UserError(f"{folder}: the run is damaged (records are missing); delete the folder and resume.")
    return FinishedRun(seed, run, evaluations, parameters, answers)
