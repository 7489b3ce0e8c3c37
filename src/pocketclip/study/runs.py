"""One run of a study in its folder: carried out, and read back for the table."""

import gc
import hashlib
import json
import traceback
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from pocketclip.cost.parameters import parameters_by_part
from pocketclip.errors import DivergedError, Interrupted, UserError, and_known, first_line
from pocketclip.evaluate.items import Items, read_answers, write_items
from pocketclip.evaluate.statistics import Units, measured
from pocketclip.evaluate.task import EmbeddingTask
from pocketclip.evaluate.tasks import embedding_task
from pocketclip.files import write_atomically
from pocketclip.recipe import Recipe, load_recipe
from pocketclip.records import EvalResult, Interval, RunRecord, read_records
from pocketclip.report.gallery import make_gallery, write_gallery
from pocketclip.run.fit import fit_to_data
from pocketclip.run.train import Outcome, train
from pocketclip.stages.watch import Watch
from pocketclip.study.halving import Rung
from pocketclip.study.record import StudyRecord
from pocketclip.study.table import listed_failures
from pocketclip.train.rung import RungReached

ANSWERS, PARAMETERS, ERROR = "ranks_val.npz", "parameters.json", "error.txt"
DIVERGED = "diverged: "
"""Beginning of what went wrong where another try would go the same way."""


@dataclass(frozen=True)
class PlannedRun:
    """A run that is to be carried out."""

    row: str
    seed: int
    recipe: Recipe
    folder: Path
    device: str
    dollars_per_hour: float | None
    rung: Rung | None = None
    """How far it is to come for now; None for its end."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Through a pipe the recipe goes as its values: the class of a generic config cannot be pickled."""
        values = self.recipe.model_dump(mode="json")
        return _unpacked, (self.row, self.seed, values, self.folder, self.device, self.dollars_per_hour, self.rung)

    @property
    def name(self) -> str:
        """For records, cards and messages."""
        return f"{self.row}, seed {self.seed}"

    @property
    def key(self) -> str:
        """Of its claims."""
        rung = "" if self.rung is None else f".rung-{self.rung.number}"
        return f"{self.folder.parent.name}.{self.folder.name}{rung}"

    @property
    def is_finished(self) -> bool:
        """Whether everything that the table needs is there."""
        return (self.folder / PARAMETERS).is_file()

    @property
    def is_done(self) -> bool:
        """Whether it has come as far as it was to come for now."""
        return self.is_finished or (self.rung is not None and (self.folder / self.rung.file).is_file())

    @property
    def mark(self) -> str:
        """How far it is: what changes with every checkpoint."""
        return max((f"{path.parent.name}/{path.name}" for path in self.folder.glob("checkpoints/*/*.pt")), default="")

    def score(self, metric: str) -> float | None:
        """A metric at the rung, or of a run that came to its end before; None where there is none."""
        place = None if self.rung is None else self.folder / self.rung.file
        if place is not None and place.is_file():
            return float(json.loads(place.read_text(encoding="utf-8"))["scores"][metric])
        if not self.is_finished:
            return None
        return read_finished(self.folder, self.seed).record.metrics.get(metric)

    def check_is_the_same(self, finished: "FinishedRun") -> None:
        """Raise a UserError where the run in the folder is one of another recipe."""
        fitted = fit_to_data(self.recipe)[0]
        if finished.record.recipe_hash == fitted.fingerprint():
            return
        if load_recipe(str(self.folder)) != fitted:  # the hash changes with new settings, whose defaults change nothing
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
            until=1.0 if run.rung is None else run.rung.share,
        )
        _keep(outcome, run)
    except (Interrupted, KeyboardInterrupt):
        raise
    except RungReached as reached:
        assert run.rung is not None
        values = {"share": run.rung.share, "step": reached.step, "scores": reached.scores}
        write_atomically(run.folder / run.rung.file, json.dumps(values) + "\n")
        return None
    except DivergedError as error:
        problem = f"{DIVERGED}{error}"
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
    folder: Path

    @property
    def task(self) -> EmbeddingTask:
        """What it was measured on."""
        return embedding_task(self.evaluations[0].task)

    @cached_property
    def units(self) -> list[Units]:
        """Its scores unit by unit, of each gallery; empty where they were not kept. `forget` frees them."""
        file = self.folder / ANSWERS
        try:
            return self.task.units(read_answers(file, alone=True)[0]) if file.is_file() else []
        except (OSError, ValueError, BadZipFile) as error:
            raise _damaged(self.folder, first_line(error)) from error

    @cached_property
    def questions(self) -> str:
        """The same of runs that were asked the same, unit by unit; empty where answers were not kept."""
        asked = hashlib.sha256()
        for group in self.units:
            for name, (_, counts) in group.items():
                asked.update(f"{name} {len(counts)} ".encode() + counts.tobytes())
        return asked.hexdigest() if self.units else ""

    def forget(self) -> None:
        """Free the units, of which thousands of runs would fill the memory; they are read again when needed."""
        self.__dict__.pop("units", None)

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
        means = measured(self.task.means, values).items()
        return values | {name: float(np.mean([values[part] for part in parts])) for name, parts in means}


def read_finished(folder: Path, seed: int) -> FinishedRun:
    """Read a finished run back; a UserError where a file is missing or damaged."""
    records = read_records(folder)
    run = next((record for record in records if isinstance(record, RunRecord)), None)
    evaluations = tuple(record for record in records if isinstance(record, EvalResult) and record.split == "val")
    try:
        parameters = json.loads((folder / PARAMETERS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(folder, first_line(error)) from error
    if run is None or not evaluations:
        raise _damaged(folder, "records are missing")
    return FinishedRun(seed, run, evaluations, parameters, folder)


def failures(record: StudyRecord) -> str:
    """What failed and whether another try may go better, then each run's problem in a line."""
    count, problems = len(record.failed), record.failed.values()
    diverged = sum(problem.startswith(DIVERGED) for problem in problems)
    again = "--resume tries them again"
    if diverged:
        again = f"{again}, those that diverged ({diverged}) only when their folders are deleted"
    return "\n".join([f"{count} of {record.num_runs} runs failed; {again}.", *listed_failures(record)])


def _damaged(folder: Path, what: str) -> UserError:
    return UserError(f"{folder}: the run is damaged ({what}); delete the folder and resume.")
