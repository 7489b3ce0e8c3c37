"""What training left of each tower's own skill: accuracies of classifiers, before training and after.

A tower's features are what it gives before any head or shared encoder. The tower is compared with itself as it was
before training: the same examples, the same way to learn, a classifier of its own.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt

from pocketclip.data.keys import caption_id
from pocketclip.data.labels import NO_LABEL, Classes, match_classes, read_labels
from pocketclip.data.source import Source
from pocketclip.data.sources.texts import LabelledTexts
from pocketclip.embedder import Embedder, Floats, TextReader
from pocketclip.errors import UserError
from pocketclip.evaluate.identities import Ids
from pocketclip.evaluate.statistics import bootstrap_ratio
from pocketclip.evaluate.task import Task
from pocketclip.features.encode import NO_IMAGES, EncodeImages, EncodeTokens, encode_texts, image_blocks
from pocketclip.models.readout import Modality
from pocketclip.preprocess import PreprocessConfig
from pocketclip.records import EvalResult, Interval, percent
from pocketclip.stages.store import Block
from pocketclip.stages.watch import Watch
from pocketclip.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import nn

    from pocketclip.asked.bundle import PretrainedModel
    from pocketclip.models.dual_encoder import DualEncoder

Hits = npt.NDArray[np.bool_]
"""(N,), whether each test example got its class."""
Examples = Source | LabelledTexts
"""Images of which some have a class, or texts that all have one."""
AnyTower = TypeVar("AnyTower")
Outcome = TypeVar("Outcome")
RANDOM_START = "the tower started from random weights: there is no skill to compare with"
NOT_TRAINED = "the tower was not trained: it is what it was"
TEXT_BLOCK = 2048
Sweep = Literal["ours", "clip", "scaling_down"]
"""How the setting of a linear probe is chosen; see `sweeps`."""


class Part(NamedTuple):
    """Features of the examples that have a class and can be read."""

    features: Floats
    """(N, F)."""
    labels: npt.NDArray[np.int64]
    """(N,)."""
    num_left_out: int
    """Examples that have no class or cannot be read."""
    ids: Ids
    """(N,), who the examples are: their pictures, or their texts."""


Parts = tuple[Part, Part]
"""To learn from, and to be tested on."""


class Asked(NamedTuple):
    """A part of a model that is asked as a whole one is."""

    encode_images: EncodeImages
    encode_texts: EncodeTokens
    preprocess: PreprocessConfig
    text_reader: Callable[[], TextReader]

    @classmethod
    def of(cls, bare: "DualEncoder", whole: "PretrainedModel", tokenizer: Tokenizer, *, heads: bool = True) -> "Asked":
        """What was made of a model's tower, on the model's device and as exact as scores ask for."""
        from pocketclip.models.running.runner import Runner

        scores = whole.for_scores().runner
        runner = Runner(
            bare, device=scores.device, precision=scores.precision, image_size=scores.image_size, heads=heads
        )
        return cls(runner.encode_images, runner.encode_tokens, whole.preprocess, lambda: tokenizer)


def matched_classes(train: Examples, test: Examples) -> Classes:
    """The classes of both parts, numbered alike; a UserError where a part has none, or they do not fit each other."""
    labels = [part.labels if isinstance(part, LabelledTexts) else read_labels(part) for part in (train, test)]
    return match_classes(*labels)


def encode_examples(
    model: Embedder | Asked, examples: Examples, labels: npt.NDArray[np.int64], which: str, watch: Watch
) -> Part:
    """What a model makes of N examples, whose (N,) `labels` are a class each or NO_LABEL.

    `which` is `training` or `test`, for progress and messages.

    Raises:
        UserError: none can be read, or the model knows images only and these are texts.
    """
    if isinstance(examples, LabelledTexts):
        reader, features = model.text_reader(), []
        for first in range(0, len(examples), TEXT_BLOCK):
            block = examples.texts[first : first + TEXT_BLOCK]
            features.append(encode_texts(block, model.encode_texts, reader))
            watch.work(f"encoding {which} texts", first + len(block), len(examples))
        return Part(np.concatenate(features), labels, 0, np.array(list(map(caption_id, examples.texts)), np.int64))
    what = f"{which} images"
    blocks = image_blocks(examples, model.encode_images, model.preprocess, watch=watch, work=f"encoding {what}")
    read = Block.join(blocks, NO_IMAGES)
    of_read = labels[read["indices"]]
    kept = of_read != NO_LABEL
    if not kept.any():
        raise UserError(f"{examples.name}: none of the {what} with a class can be read.")
    return Part(read["features"][kept, 0], of_read[kept], len(examples) - int(kept.sum()), read["pictures"][kept])


def commonest_class(learned: npt.NDArray[np.int64], classes: Classes) -> int:
    """Of the classes that are answers the one with the most training examples."""
    counts = np.bincount(learned, minlength=len(classes.class_names))
    return int(classes.candidates[counts[classes.candidates].argmax()])


def class_sizes(classes: Classes) -> dict[str, float]:
    """How many classes were learned, and how many of them were answers where these are fewer."""
    learned, asked = float(len(classes.class_names)), float(len(classes.candidates))
    return {"num_classes": learned, **({"num_candidates": asked} if asked < learned else {})}


def among(result: EvalResult) -> str:
    """The same in words."""
    classes, asked = result.metrics["num_classes"], result.metrics.get("num_candidates")
    of = f"of {classes:g} classes"
    return of if asked is None else f"of {asked:g} {of}, which alone are answers"


class TowerTask(Task):
    """Accuracies of classifiers over a tower, as settings and as a table."""

    modality: ClassVar[Modality] = "image"
    columns = ("of", "top-1 accuracy")
    counted = "examples"
    meaning = "The share of test examples that got their class."
    openings = {
        "top1_accuracy": "{} of 100 examples get their class",
        "commonest_class_accuracy": "Always the commonest class would be right for {} of 100",
    }

    against_start: bool = True
    """Whether to compare with the tower as it was before training."""

    def before_and_after(
        self, tower: AnyTower, start: AnyTower | None, measure: Callable[[AnyTower], Outcome]
    ) -> tuple[dict[str, Outcome], list[str]]:
        """What comes of a tower and of its start where that is asked for, by the ending of its metrics; and notes.

        `start` is None where the tower started from random weights.
        """
        from pocketclip.models.origin.start import same_weights

        outcomes = {"": measure(tower)}
        if not self.against_start:
            return outcomes, []
        if start is None:
            return outcomes, [RANDOM_START]
        if same_weights(cast("nn.Module", start), cast("nn.Module", tower)):
            return {**outcomes, "_start": outcomes[""]}, [NOT_TRAINED]
        return {**outcomes, "_start": measure(start)}, []

    def record(
        self,
        test: Examples,
        correct: Mapping[str, Hits],
        parts: Parts,
        classes: Classes,
        notes: list[str],
        further: Mapping[str, Interval | float] = {},
    ) -> EvalResult:
        """The record: accuracies by the ending of their names, `further` metrics, and what the parts left out."""
        trained, tested = parts
        commonest = commonest_class(trained.labels, classes)
        count = len(tested.labels)
        left_out = [
            f"{part.num_left_out} {which} examples without a class, or broken, left out"
            for which, part in (("training", trained), ("test", tested))
            if part.num_left_out
        ]
        unnamed = [f"classes matched by number: {name} names none" for name in classes.unnamed]
        return EvalResult(
            task=self.kind,
            dataset=test.name,
            split="all",
            num_images=count if self.modality == "image" else 0,
            num_captions=count if self.modality == "text" else 0,
            metrics={
                **accuracies(correct),
                **further,
                "commonest_class_accuracy": float((tested.labels == commonest).mean()),
                **class_sizes(classes),
                "num_training_examples": float(len(trained.labels)),
            },
            notes=[*notes, *unnamed, *left_out],
        )

    def title(self, result: EvalResult) -> str:
        learned = result.metrics["num_training_examples"]
        of = f"{among(result)}, learned from {learned:,.0f}"
        return f"{self.heading} on {self.counts(result)} {of}; percent [95 % interval]"

    def sizes(self, result: EvalResult) -> dict[str, int]:
        return {"images": result.num_images} if result.num_images else {"texts": result.num_captions}

    def rows(self, result: EvalResult) -> list[list[str]]:
        """A row for each classifier, then what always giving one answer would score."""
        labels = {
            "top1_accuracy": "the tower, trained",
            "top1_accuracy_start": "the tower before training",
            "top1_accuracy_change": "change",
            "top1_accuracy_embedding": "the embedding",
            "commonest_class_accuracy": "always the commonest class",
        }
        besides = {"": "", "_in_distribution": ", in distribution", "_gap": ", the gap to it"}
        return [
            [f"{label}{words}", percent(result.metrics[f"{key}{ending}"])]
            for key, label in labels.items()
            for ending, words in besides.items()
            if f"{key}{ending}" in result.metrics
        ]


def hits_by_score(correct: Mapping[str, Hits]) -> dict[str, Hits]:
    """(N,) right or wrong of each `top1_accuracy`, by its name."""
    return {f"top1_accuracy{ending}": hits for ending, hits in correct.items()}


def accuracies(correct: Mapping[str, Hits]) -> dict[str, Interval]:
    """`top1_accuracy` of each ending, and `top1_accuracy_change` from `_start` to the empty one, all with intervals.

    Of the change the examples are resampled with both answers together, since the two towers saw the same examples:
    the interval is that of the difference, and narrower than those of its two ends suggest.
    """
    scores = {name: hits.astype(np.float64) for name, hits in hits_by_score(correct).items()}
    if "_start" in correct:
        scores["top1_accuracy_change"] = scores["top1_accuracy"] - scores["top1_accuracy_start"]
    return {name: bootstrap_ratio(hits, np.ones(len(hits))) for name, hits in scores.items()}
