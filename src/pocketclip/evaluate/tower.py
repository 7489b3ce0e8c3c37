"""What training left of each tower's own skill: accuracies of classifiers, before training and after.

A tower's features are what it gives before any head or shared encoder. The tower is compared with itself as it was
before training: the same examples, the same way to learn, a classifier of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from pocketclip.data.labels import NO_LABEL, Classes, Labels, match_classes, read_labels
from pocketclip.data.source import Source
from pocketclip.data.sources.texts import LabelledTexts
from pocketclip.embedder import Embedder, Floats, Ids, Mask, Pixels
from pocketclip.errors import UserError
from pocketclip.evaluate.statistics import bootstrap_ratio
from pocketclip.evaluate.task import Task
from pocketclip.features.encode import NO_IMAGES, encode_texts, image_blocks
from pocketclip.models.running.runner import Runner
from pocketclip.preprocess import PreprocessConfig
from pocketclip.records import EvalResult, Interval, percent
from pocketclip.stages.store import Block
from pocketclip.stages.watch import Watch
from pocketclip.tokenizer import Tokenizer

Modality = Literal["image", "text"]
Hits = npt.NDArray[np.bool_]
RANDOM_START = "the tower started from random weights: there is no skill to compare with"
NOT_TRAINED = "the tower was not trained: it is what it was"
TEXT_BLOCK = 2048


@dataclass(frozen=True)
class Part:
    """Features of the examples that have a class and can be read."""

    features: Floats
    """(N, F)."""
    labels: npt.NDArray[np.int64]
    """(N,)."""
    num_left_out: int
    """Examples that have no class or cannot be read."""


Parts = tuple[Part, Part]
"""To learn from, and to be tested on."""


@dataclass(frozen=True)
class Asked:
    """A runner with the settings of its inputs: asked like a model, it gives what its towers give."""

    runner: Runner
    preprocess: PreprocessConfig
    tokenizer: Tokenizer

    def encode_images(self, pixels: Pixels) -> Floats:
        """(B, F)."""
        return self.runner.encode_images(pixels)

    def encode_texts(self, tokens: Ids, mask: Mask) -> Floats:
        """(M, F)."""
        return self.runner.encode_tokens(tokens, mask)

    def text_reader(self) -> Tokenizer:
        """The tokenizer."""
        return self.tokenizer


@dataclass(frozen=True)
class ImageExamples:
    """Labelled images of a source."""

    source: Source
    labels: Labels
    """Of each sample."""

    @classmethod
    def of(cls, source: Source) -> "ImageExamples":
        """With the classes that the source gives.

        Raises:
            UserError: it gives none.
        """
        return cls(source, read_labels(source))

    @property
    def name(self) -> str:
        """Of the source."""
        return self.source.name

    def features(self, model: Embedder | Asked, labels: npt.NDArray[np.int64], which: str, watch: Watch) -> Part:
        """What a model makes of them.

        Args:
            model: encodes them.
            labels: (N,) the class of each, or NO_LABEL.
            which: `training` or `test`, for progress and messages.
            watch: told of the work done and of broken items.

        Raises:
            UserError: none can be read.
        """
        what = f"{which} images"
        parts = image_blocks(self.source, model.encode_images, model.preprocess, watch=watch, work=f"encoding {what}")
        found = Block.join(parts, NO_IMAGES)
        of_found = labels[found["indices"]]
        kept = of_found != NO_LABEL
        if not kept.any():
            raise UserError(f"{self.name}: none of the {what} with a class can be read.")
        return Part(found["features"][kept, 0], of_found[kept], len(self.source) - int(kept.sum()))


@dataclass(frozen=True)
class TextExamples:
    """Labelled texts, every one with a class."""

    texts: LabelledTexts

    @property
    def name(self) -> str:
        """Of the table."""
        return self.texts.name

    @property
    def labels(self) -> Labels:
        """Of each text."""
        return self.texts.labels

    def features(self, model: Embedder | Asked, labels: npt.NDArray[np.int64], which: str, watch: Watch) -> Part:
        """See `ImageExamples`; a model of images alone is an error."""
        reader, features = model.text_reader(), []
        for first in range(0, len(self.texts), TEXT_BLOCK):
            block = self.texts.texts[first : first + TEXT_BLOCK]
            features.append(encode_texts(block, model.encode_texts, reader))
            watch.work(f"encoding {which} texts", first + len(block), len(self.texts))
        return Part(np.concatenate(features), labels, 0)


Examples = ImageExamples | TextExamples


class TowerTask(Task):
    """Accuracies of classifiers over a tower, as settings and as a table."""

    modality: ClassVar[Modality] = "image"
    columns = ("of", "top-1 accuracy")
    counted = "examples"
    meaning = "The share of test examples that got their class."

    against_start: bool = True
    """Whether to compare with the tower as it was before training."""

    def record(
        self, test: Examples, metrics: dict[str, Interval | float], notes: list[str], parts: Parts
    ) -> EvalResult:
        """The record, with what was left out."""
        left_out = [
            f"{part.num_left_out} {which} examples without a class, or broken, left out"
            for which, part in zip(("training", "test"), parts, strict=True)
            if part.num_left_out
        ]
        count = len(parts[1].labels)
        return EvalResult(
            task=self.kind,
            dataset=test.name,
            split="all",
            num_images=count if self.modality == "image" else 0,
            num_captions=count if self.modality == "text" else 0,
            metrics=metrics,
            notes=[*notes, *left_out],
        )

    def title(self, result: EvalResult) -> str:
        """What was learned, and from how much."""
        classes, trained = result.metrics["num_classes"], result.metrics["num_training_examples"]
        assert isinstance(classes, float)
        assert isinstance(trained, float)
        what = f"{self.heading} on {self.counts(result)} of {classes:g} classes, learned from {trained:,.0f}"
        return f"{what}; percent [95 % interval]"

    def counts(self, result: EvalResult) -> str:
        """On how many, in words."""
        return f"{self.count(result)} {'images' if result.num_images else 'texts'}"

    def count(self, result: EvalResult) -> str:
        """On how many."""
        return f"{result.num_images or result.num_captions:,}"

    def rows(self, result: EvalResult) -> list[list[str]]:
        """A row for each classifier, then what always giving one answer would score."""
        labels = {
            "top1_accuracy": "the tower, trained",
            "top1_accuracy_start": "the tower before training",
            "top1_accuracy_change": "change",
            "top1_accuracy_embedding": "the embedding",
            "commonest_class_accuracy": "always the commonest class",
        }
        return [[label, percent(result.metrics[key])] for key, label in labels.items() if key in result.metrics]


def matched(train: Examples, test: Examples) -> Classes:
    """The classes of both parts, numbered alike."""
    return match_classes(train.labels, test.labels)


def accuracies(correct: Mapping[str, Hits]) -> dict[str, Interval | float]:
    """`top1_accuracy` of each ending, and `top1_accuracy_change` from `_start` to the empty one, all with intervals.

    Of the change the examples are resampled with both answers together, since the two towers saw the same examples:
    the interval is that of the difference, and narrower than those of its two ends suggest.

    Args:
        correct: (N,) each, whether each test example got its class.
    """
    scores = {f"top1_accuracy{ending}": hits.astype(np.float64) for ending, hits in correct.items()}
    if "_start" in correct:
        scores["top1_accuracy_change"] = scores["top1_accuracy"] - scores["top1_accuracy_start"]
    return {name: bootstrap_ratio(hits, np.ones(len(hits))) for name, hits in scores.items()}


def class_counts(parts: Parts, num_classes: int) -> dict[str, Interval | float]:
    """How many classes and training examples, and what always answering the commonest training class would score."""
    train, test = parts
    commonest = int(np.bincount(train.labels, minlength=num_classes).argmax())
    return {
        "commonest_class_accuracy": float((test.labels == commonest).mean()),
        "num_classes": float(num_classes),
        "num_training_examples": float(len(train.labels)),
    }
