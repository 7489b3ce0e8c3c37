"""Which of several captions is nearest to a picture, where only one is true: what tasks of composition ask.

An example is right where its true caption is nearer than every false one. Ties count against the model.
"""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from pocketclip.data.choices import Choices
from pocketclip.data.keys import caption_id
from pocketclip.data.source import Source
from pocketclip.embedder import Floats, JudgePairs
from pocketclip.errors import UserError
from pocketclip.evaluate.identities import Ids, joined_ids, pictures_of
from pocketclip.evaluate.ranked import TIE
from pocketclip.evaluate.statistics import Units, bootstrap_ratios
from pocketclip.evaluate.task import EmbeddingTask
from pocketclip.evaluate.task_data import Answers
from pocketclip.features.encode import Embeddings
from pocketclip.records import EvalResult, Interval

Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
_ROWS = 1 << 16  # compared at a time


def rows_of(choices: Choices, embeddings: Embeddings, num_samples: int) -> tuple[Numbers, Numbers, Numbers]:
    """Of the examples whose picture could be read their numbers, and (e,) rows of the picture and the true caption.

    The false captions of an example stand behind its true one among `texts_in_order`.
    """
    row_of = np.full(num_samples, -1)
    row_of[embeddings.indices] = np.arange(len(embeddings.indices))
    kept = np.flatnonzero(row_of[choices.samples] >= 0)
    images = row_of[choices.samples[kept]]
    counts = np.bincount(embeddings.text_images, minlength=len(embeddings.images))
    return kept, images, (np.cumsum(counts) - counts)[images] + choices.firsts[kept]


def texts_in_order(embeddings: Embeddings) -> Floats:
    """(Q, D), those of a picture one behind the other, pictures in their order."""
    return embeddings.texts[np.argsort(embeddings.text_images, kind="stable")]


def similarities(images: Floats, texts: Floats, rows: Numbers, text_rows: Numbers) -> Floats:
    """(e,) of each row of images with one of texts."""
    parts = [slice(first, first + _ROWS) for first in range(0, max(1, len(rows)), _ROWS)]
    return np.concatenate([np.einsum("ed,ed->e", images[rows[part]], texts[text_rows[part]]) for part in parts])


def nearest_is_true(images: Floats, texts: Floats, rows: Numbers, firsts: Numbers, sizes: Numbers) -> Flags:
    """(e,) whether text `firsts` is nearer to image `rows` than each of those behind it, of `sizes` in all."""
    own = similarities(images, texts, rows, firsts)
    right = np.ones(len(rows), np.bool_)
    for place in range(1, int(sizes.max(initial=1))):
        have = np.flatnonzero(sizes > place)
        right[have] &= own[have] > similarities(images, texts, rows[have], firsts[have] + place) + TIE
    return right


class ChoiceTask(EmbeddingTask):
    """Which of a picture's captions is true."""

    needs = frozenset({"choices"})
    columns = ("score", "percent")
    counted = "images / examples"
    unit = "pictures"
    meaning = (
        "An example is right where its true caption is nearer to the picture than every false one; a tie is wrong."
    )
    openings = {"accuracy": "The true sentence is nearer than the false for {} of 100"}
    scores: ClassVar[tuple[str, ...]] = ("accuracy",)
    each_kind: ClassVar[bool] = True
    """Whether a record tells the accuracy of each kind."""
    curves = ("accuracy", {"accuracy": "accuracy"})

    def check(self, source: Source, judge: JudgePairs | None) -> None:
        if source.choices is None:
            raise UserError(
                f"{source.name}: has no false captions to tell from true ones; {self.kind} needs "
                "sugarcrepe:FOLDER,IMAGES, winoground:FILE,IMAGES, aro:FILE,IMAGES or scenes:COUNT,texts=choices."
            )

    def choices(self, source: Source) -> Choices:
        """What is asked of the source."""
        self.check(source, None)
        assert source.choices is not None
        return source.choices

    def result(
        self, embeddings: Embeddings, source: Source, judge: JudgePairs | None = None, *, split: str = "all"
    ) -> EvalResult:
        answers, every = self.answers(embeddings, source, judge), len(self.choices(source).samples)
        mute = len(source) - len(np.unique(self.choices(source).samples))
        notes = [f"{mute:,} pictures have no false caption, and nothing is asked of them"] if mute else []
        return self._record(embeddings, source, answers, np.arange(every), split, notes)

    def record_of_kind(self, embeddings: Embeddings, source: Source, kind: str) -> EvalResult:
        """The record of the examples of one kind, which is its split."""
        choices, answers = self.choices(source), self.answers(embeddings, source)
        own = answers["kinds"] == kind
        examples = np.flatnonzero(choices.kinds == choices.names.index(kind))
        _, pictures = np.unique(answers["pictures"][own], return_inverse=True)
        part = {**{name: values[own] for name, values in answers.items()}, "pictures": pictures}
        return self._record(embeddings, source, part, examples, kind, [])

    def _record(
        self, embeddings: Embeddings, source: Source, answers: Answers, examples: Numbers, split: str, notes: list[str]
    ) -> EvalResult:
        """Of some examples, of which those that could be asked were answered."""
        choices, asked = self.choices(source), answers["examples"]
        missing = self.num_examples(examples) - self.num_examples(asked)
        broken = f" ({len(embeddings.broken)} broken items)" if embeddings.broken else ""
        lost = [f"{missing:,} examples left out, of which a picture cannot be read{broken}"] if missing else []
        metrics: dict[str, Interval | float] = {**bootstrap_ratios(self.units(answers), self.means)}
        metrics["num_examples"] = float(self.num_examples(asked))
        return EvalResult(
            task=self.kind,
            dataset=source.name,
            split=split,
            num_images=len(np.unique(choices.samples[asked])),
            num_captions=int(choices.sizes[asked].sum()) // (1 + choices.twins),
            metrics={**metrics, **self.chances(choices.sizes[asked])},
            notes=[*lost, *notes],
        )

    def num_examples(self, asked: Numbers) -> int:
        """How many questions stand behind (e,) examples."""
        return len(asked)

    def chances(self, sizes: Numbers) -> dict[str, float]:
        """What guessing gives, beside the scores."""
        return {"chance_accuracy": float((1 / sizes).mean())}

    def answers(self, embeddings: Embeddings, source: Source, judge: JudgePairs | None = None) -> Answers:
        """Of every example that could be asked its number, whether it was right, its picture and its kind."""
        choices = self.choices(source)
        if not np.isfinite(embeddings.images).all() or not np.isfinite(embeddings.texts).all():
            raise UserError(f"{self.kind}: the model gave embeddings that are not finite.")
        examples, images, firsts = rows_of(choices, embeddings, len(source))
        if not len(examples):
            raise UserError(f"{source.name}: of no example could the picture be read.")
        texts = texts_in_order(embeddings)
        right = nearest_is_true(embeddings.images, texts, images, firsts, choices.sizes[examples])
        pictures = images if embeddings.pictures is None else embeddings.pictures[images]
        _, pictures = np.unique(pictures, return_inverse=True)  # numbers that fit into 32 bits
        kinds = np.array(choices.names)[choices.kinds[examples]]
        return {"examples": examples, "correct": right, "pictures": pictures, "kinds": kinds}

    def identities(self, embeddings: Embeddings, source: Source) -> Ids:
        """Of each picture, by itself and the captions that it is asked about."""
        answers = self.answers(embeddings, source)
        return self.grouped_ids(embeddings, source, answers["examples"], answers["pictures"])

    def grouped_ids(self, embeddings: Embeddings, source: Source, examples: Numbers, groups: Numbers) -> Ids:
        """Of each of G groups, numbered from 0, by the pictures and captions of its examples."""
        pictures = np.full(len(source), -1, np.int64)
        pictures[embeddings.indices] = pictures_of(embeddings, source)
        parts: list[dict[int, None]] = [{} for _ in range(int(groups.max()) + 1)]
        for sample, group in zip(self.choices(source).samples[examples].tolist(), groups.tolist(), strict=True):
            parts[group] |= dict.fromkeys([int(pictures[sample]), *map(caption_id, source.captions(sample))])
        return joined_ids([list(part) for part in parts])

    def units(self, answers: Answers) -> list[Units]:
        """Accuracy, and where there are several kinds the mean over them, picture by picture."""
        correct, kinds, pictures = answers["correct"].astype(np.float64), answers["kinds"], answers["pictures"]
        weights = {"accuracy": np.ones(len(correct))}
        names, counts = np.unique(kinds[self.counts_for_mean(kinds)], return_counts=True)
        if len(np.unique(kinds)) > 1 and len(names):
            # The mean over kinds is a share, too: of examples that weigh the less, the more there are of their kind
            shares = dict(zip(names.tolist(), (1 / counts).tolist(), strict=True))
            weights["mean_accuracy"] = np.array([shares.get(kind, 0.0) for kind in kinds.tolist()])
            weights |= {f"{name}_accuracy": (kinds == name) * 1.0 for name in shares if self.each_kind}
        return [{name: (_sums(pictures, own * correct), _sums(pictures, own)) for name, own in weights.items()}]

    def counts_for_mean(self, kinds: npt.NDArray[Any]) -> Flags:
        """(e,) whether an example's kind is one of those that the mean is over."""
        return np.ones(len(kinds), np.bool_)

    def sizes(self, result: EvalResult) -> dict[str, int]:
        examples = result.metrics["num_examples"]
        assert not isinstance(examples, Interval)
        return {"images": result.num_images, "examples": int(examples)}

    def chance(self, result: EvalResult) -> tuple[str, float] | None:
        chance = result.metrics.get("chance_accuracy")
        return ("accuracy", chance) if isinstance(chance, float) else None


def _sums(groups: npt.NDArray[np.integer[Any]], values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.bincount(groups, values).astype(np.float64)
