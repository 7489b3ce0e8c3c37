"""What a task is: its settings, what it needs, how it is run and what its table shows. One task a file in `tasks/`."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from pocketclip.config import Config
from pocketclip.data.identity import overlap, picture_ids
from pocketclip.data.source import Gift, Source, left_out_lines
from pocketclip.embedder import Embedder, JudgePairs
from pocketclip.errors import UserError
from pocketclip.evaluate.encoded import EMBEDDING, MakeEncoder, whole
from pocketclip.evaluate.identities import Ids, image_identities
from pocketclip.evaluate.statistics import Means, Units, ratios
from pocketclip.evaluate.task_data import Answers, TaskData
from pocketclip.features.encode import Embeddings
from pocketclip.records import EvalResult, Interval, RunRecord, read_records
from pocketclip.stages.watch import SILENT, Watch

Need = Gift | Literal["texts", "training data"]
"""Of a source what it gives; or texts with classes in its place; or something to learn from."""
_OF_GROUPS = frozenset({"grouped_by", "group_names", "left_out_groups"})
NOT_ASKED = _OF_GROUPS | {"against_start", "max_broken_share", "in_distribution", "metrics", "missing_classes"}
"""Settings that change nothing of the items that a task asks about."""


class Task(Config):
    """Settings, which `--set` changes. The first line of its docstring is what `pocketclip list tasks` shows."""

    kind: str = ""
    """The task's name, in commands and records; each task gives its own."""
    needs: ClassVar[frozenset[Need]] = frozenset()
    heading: ClassVar[str] = "Scores"
    """What a table of it is called."""
    columns: ClassVar[tuple[str, ...]] = ("score", "percent")
    """The head of its table; the first says what a row is."""
    counted: ClassVar[str] = "images / captions"
    """What a table calls the numbers of `count`."""
    means: ClassVar[Means] = {}
    """Scores that are the mean of others, by name."""
    keeps_head: ClassVar[bool] = False
    """Whether it learns a classifier of embeddings that `classify` can use."""
    unit: ClassVar[str] = "examples"
    """What is resampled for an interval."""
    meaning: ClassVar[str] = ""
    """What the scores count, in a sentence."""
    openings: ClassVar[Mapping[str, str]] = {}
    """What a page says first: by a score's name a sentence, whose {} is how many of 100; the first goes by chance."""

    @abstractmethod
    def run(self, model: Embedder, data: TaskData, watch: Watch = SILENT) -> EvalResult:
        """Measure a model, whoever made it, on data; `watch` is told of the work done and of broken items.

        Raises:
            UserError: the model or the data lack what the task needs.
        """

    def parts(self, model: Embedder, data: TaskData, watch: Watch = SILENT) -> list[EvalResult]:
        """Records of parts of what `run` measured before, which come before that of the whole; of most tasks none."""
        del model, data, watch
        return []

    def encoders(self, model: Embedder) -> dict[str, MakeEncoder]:
        """What it will ask about all images, so that several tasks can have it of one reading; see `Encoded`."""
        del model
        return {}

    def expect(self, model: Embedder, data: TaskData) -> None:
        """Say so to the data that it will be run on."""
        data.expect(model, self.encoders(model), with_training="training data" in self.needs)

    @property
    def settings(self) -> dict[str, Any]:
        """All settings as plain JSON, for its record."""
        return self.model_dump(mode="json", exclude={"kind"})

    def units(self, answers: Answers) -> list[Units]:
        """Scores that are shares, unit by unit, of each gallery that was ranked apart; mostly one.

        Two models that were asked the same have the same trials, and may be compared unit by unit. Here `answers` are
        each score's share of every unit.
        """
        return [{name: (shares.astype(np.float64), np.ones(len(shares))) for name, shares in answers.items()}]

    def title(self, result: EvalResult) -> str:
        """What was measured, on what and how many."""
        return f"{self.heading} on {result.split}: {self.counts(result)}; percent [95 % interval]"

    def measured_on(self, result: EvalResult) -> str:
        """What a page calls the data of one of several records: here their split."""
        return result.split

    def sizes(self, result: EvalResult) -> dict[str, int]:
        """On how many, by the word for them."""
        return {"images": result.num_images, "captions": result.num_captions}

    def counts(self, result: EvalResult) -> str:
        """On how many, in words."""
        return ", ".join(f"{size:,} {things}" for things, size in self.sizes(result).items())

    def count(self, result: EvalResult) -> str:
        """On how many, as `counted` says."""
        return " / ".join(f"{size:,}" for size in self.sizes(result).values())

    def rows(self, result: EvalResult) -> list[list[str]]:
        """The table, in percent with 95 % intervals, as in `columns`: here a row for each score with an interval."""
        return [
            [name.replace("_", " "), value.percent()]
            for name, value in result.metrics.items()
            if isinstance(value, Interval)
        ]

    def remarks(self, result: EvalResult) -> list[str]:
        """Lines below the table."""
        return list(result.notes)

    def chance(self, result: EvalResult) -> tuple[str, float] | None:
        """A score and what guessing gives in it; None where the table says it, or nobody knows."""
        del result
        return None


def measure(task: Task, model: Embedder, data: TaskData, watch: Watch = SILENT) -> EvalResult:
    """What a task says of a model, with notes on the data: what the reader left out, and what the model has seen."""
    return measure_whole_and_parts(task, model, data, watch)[-1]


def measure_whole_and_parts(task: Task, model: Embedder, data: TaskData, watch: Watch = SILENT) -> list[EvalResult]:
    """The same with the records of parts, where the task has some, before it."""
    data.items = data.head = None
    whole = task.run(model, data, watch)
    about = {"model": model.name, "settings": task.settings, **_training_of(model)}
    results = [result.model_copy(update=about) for result in (*task.parts(model, data, watch), whole)]
    if "texts" in task.needs:
        return results
    credit = [data.source.credit] if data.source.credit else []
    notes = [*credit, *left_out_lines(*data.opened), *_seen_in_training(model, data.source, watch)]
    if "training data" in task.needs and (shared := overlap(data.images[1], data.images[0], watch)).count:
        notes.append(f"{shared.count:,} of {shared.of:,} test pictures are in the training data, too")
    return [result.model_copy(update={"notes": [*result.notes, *notes]}) for result in results]


def _training_of(model: Embedder) -> dict[str, Any]:
    """Seed and recipe of the run that a model lies in, where it does."""
    folder = Path(model.name)
    if not (folder / "records").is_dir():
        return {}
    run = next((record for record in read_records(folder) if isinstance(record, RunRecord)), None)
    return {} if run is None else {"seed": run.seed, "recipe_hash": run.recipe_hash}


def _seen_in_training(model: Embedder, source: Source, watch: Watch) -> list[str]:
    """A note where the model was trained on some of the pictures."""
    if model.trained_on is None or not (count := model.trained_on.count_in(picture_ids(source, watch))):
        return []
    about = "" if model.trained_on.is_whole else "about "
    return [f"{about}{count:,} of {len(source):,} pictures were trained on: the score says less of others"]


class EmbeddingTask(Task):
    """A task over the embeddings of a whole source: what training measures a validation split with, too.

    Of its methods, `judge` is the model's judge of pairs, for tasks that need `pairs`.
    """

    scores: ClassVar[tuple[str, ...]] = ()
    """What a study shows where it names no metrics."""
    labels: ClassVar[Mapping[str, str]] = {}
    """Shorter names of scores, for narrow columns."""
    curves: ClassVar[tuple[str, Mapping[str, str]]] = ("score", {})
    """What a plot of training shows: a word for all of it, and a label for each of some of `points`."""

    def guessing(self, num_images: int) -> Mapping[str, float]:
        """What guessing gives in some of the scores, by their names, among so many images."""
        del num_images
        return {}

    def guessing_on(self, source: Source, num_images: int) -> Mapping[str, float]:
        """The same of so many images of a source, where more than their number matters."""
        del source
        return self.guessing(num_images)

    def check(self, source: Source, judge: JudgePairs | None) -> None:
        """Raise a UserError where the model or the source lack what the task needs, before any work."""

    def encoders(self, model: Embedder) -> dict[str, MakeEncoder]:
        del model
        return {EMBEDDING: whole}

    def run(self, model: Embedder, data: TaskData, watch: Watch = SILENT) -> EvalResult:
        source = data.source
        if len(source) == 0:
            raise UserError(f"{source.name}: no images.")
        if "captions" in self.needs and source.choices is not None:
            raise UserError(
                f"{source.name}: some of its captions are false, and {self.kind} takes each for true; what asks which "
                "is true: --task sugarcrepe, winoground or aro."
            )
        if "associations" in source.gives:
            raise UserError(f"{source.name}: its words go with some of its pictures each, as --task winogavil asks.")
        self.check(source, model.judge_pairs)
        embeddings, judge = data.embeddings(model, watch), model.judge_pairs
        if data.keeps_items:
            data.keep(self.answers(embeddings, source, judge), self.identities(embeddings, source))
        return self.result(embeddings, source, judge)

    @abstractmethod
    def result(
        self, embeddings: Embeddings, source: Source, judge: JudgePairs | None = None, *, split: str = "all"
    ) -> EvalResult:
        """The record, with intervals; what had to be left out is named."""

    def points(self, embeddings: Embeddings, source: Source, judge: JudgePairs | None = None) -> dict[str, float]:
        """The scores without intervals, as often as training likes; `val_loss` where the objective's cannot be had."""
        return ratios(self.units(self.answers(embeddings, source, judge)), self.means)

    @abstractmethod
    def answers(self, embeddings: Embeddings, source: Source, judge: JudgePairs | None = None) -> Answers:
        """What came of every single question."""

    def identities(self, embeddings: Embeddings, source: Source) -> Ids:
        """(N,) who the units of all galleries are; here images, each by its picture and its captions."""
        return image_identities(embeddings, source)


__all__ = [
    "NOT_ASKED",
    "Answers",
    "EmbeddingTask",
    "Need",
    "Task",
    "TaskData",
    "measure",
    "measure_whole_and_parts",
]
