"""What a task is: its settings, what it needs, how it is run and what its table shows. One task a file in `tasks/`."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from pocketclip.config import Config
from pocketclip.data import hold_out
from pocketclip.data.identity import overlap, picture_ids
from pocketclip.data.source import Gift, Source, Subset, left_out_lines
from pocketclip.data.sources.texts import LabelledTexts
from pocketclip.embedder import Embedder, JudgePairs
from pocketclip.errors import UserError
from pocketclip.evaluate.identities import Ids, image_identities
from pocketclip.evaluate.statistics import Means, Units, ratios
from pocketclip.features.encode import Embeddings, embed_source, with_captions
from pocketclip.records import EvalResult, Interval, RunRecord, read_records
from pocketclip.stages.watch import SILENT, Watch

Need = Gift | Literal["texts", "training data"]
"""Of a source what it gives; or texts with classes in its place; or something to learn from."""
Answers = Mapping[str, npt.NDArray[Any]]
"""What came of every single question, as arrays that a study can store."""
HELD_OUT_SHARE = 0.2
"""Of the data, for testing, where no training data are given."""


class TaskData:
    """What tasks are measured on, images or texts; what several of them need is made once.

    Without a `train` part, tasks that need `training data` take four fifths of the source or the texts.
    """

    def __init__(
        self,
        source: Source | None = None,
        *,
        train: Source | None = None,
        texts: LabelledTexts | None = None,
        train_texts: LabelledTexts | None = None,
        keeps_items: bool = False,
    ) -> None:
        self._source, self._train = source, train
        self._texts, self._train_texts = texts, train_texts
        self._embedded: tuple[Embedder, Embeddings] | None = None
        self._embedded_images: tuple[Embedder, Embeddings] | None = None
        self.keeps_items = keeps_items
        self.items: tuple[Answers, Ids] | None = None
        """What the last task kept of single items."""
        self._embedded_train: tuple[Embedder, Embeddings] | None = None

    @property
    def opened(self) -> tuple[Source | None, Source | None]:
        """The images and those to learn from, where they were given."""
        return self._source, self._train

    @property
    def source(self) -> Source:
        """The images."""
        assert self._source is not None, "a task needs images, and was given none"
        return self._source

    @cached_property
    def images(self) -> tuple[Source, Source]:
        """Images to learn from, and to be tested on."""
        return hold_out(self.source, HELD_OUT_SHARE) if self._train is None else (self._train, self.source)

    @cached_property
    def texts(self) -> tuple[LabelledTexts, LabelledTexts]:
        """Texts to learn from, and to be tested on."""
        assert self._texts is not None, "a task needs texts, and was given none"
        whole = self._texts
        return whole.hold_out(HELD_OUT_SHARE) if self._train_texts is None else (self._train_texts, whole)

    def embeddings(self, model: Embedder, watch: Watch) -> Embeddings:
        """The whole source in a model's space, as exact as scores ask for; made once for a model."""
        if self._embedded is None or self._embedded[0] is not model:
            exact = model.for_scores()
            exact.text_reader()  # before any work
            self._embedded = model, with_captions(exact, self.source, self.image_embeddings(model, watch))
            self._embedded_images = None
        return self._embedded[1]

    def image_embeddings(self, model: Embedder, watch: Watch) -> Embeddings:
        """The same without texts, which need not be encoded then; made once for a model."""
        if self._embedded is not None and self._embedded[0] is model:
            return self._embedded[1]
        if self._embedded_images is None or self._embedded_images[0] is not model:
            self._embedded_images = model, embed_source(model.for_scores(), self.source, watch, with_texts=False)
        return self._embedded_images[1]

    def keep(self, answers: Answers, ids: Ids) -> None:
        """Where items are kept: what came of each, as `Task.units` reads it, and (N,) who the N units are.

        Ids are equal for the same items in whatever order and place they lie, such as `picture_id`s.
        """
        if self.keeps_items:
            self.items = answers, ids

    def embedded_parts(self, model: Embedder, watch: Watch) -> tuple[Embeddings, Embeddings]:
        """Images to learn from and to be tested on, without texts, by their numbers in each; made once for a model."""
        train, test = self.images
        whole = self.image_embeddings(model, watch)
        if self._train is None:
            assert isinstance(train, Subset)
            assert isinstance(test, Subset)
            return whole.part(train.indices), whole.part(test.indices)
        if self._embedded_train is None or self._embedded_train[0] is not model:
            self._embedded_train = model, embed_source(model.for_scores(), train, watch, with_texts=False)
        return self._embedded_train[1], whole


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
    data.items = None
    result = task.run(model, data, watch).model_copy(update={"model": model.name, **_training_of(model)})
    if "texts" in task.needs:
        return result
    credit = [data.source.credit] if data.source.credit else []
    notes = [*credit, *left_out_lines(*data.opened), *_seen_in_training(model, data.source, watch)]
    if "training data" in task.needs and (shared := overlap(data.images[1], data.images[0], watch)).count:
        notes.append(f"{shared.count:,} of {shared.of:,} test pictures are in the training data, too")
    return result.model_copy(update={"notes": [*result.notes, *notes]})


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

    def check(self, source: Source, judge: JudgePairs | None) -> None:
        """Raise a UserError where the model or the source lack what the task needs, before any work."""

    def run(self, model: Embedder, data: TaskData, watch: Watch = SILENT) -> EvalResult:
        source = data.source
        if len(source) == 0:
            raise UserError(f"{source.name}: no images.")
        if "captions" in self.needs and source.choices is not None:
            raise UserError(
                f"{source.name}: some of its captions are false, and {self.kind} takes each for true; what asks which "
                "is true: --task sugarcrepe, winoground or aro."
            )
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
