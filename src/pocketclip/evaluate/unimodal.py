"""What training left of each tower's own skill: linear probes of the towers, before and after.

A tower's features are what it gives before any head or shared encoder. The tower is compared with itself as it was
before training: the same examples, the same probe, a classifier of its own. The embedding, behind head and shared
encoder, is a further row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data.labels import NO_LABEL, Task, match_classes, read_labels
from pocketclip.data.source import Source
from pocketclip.data.texts import LabelledTexts
from pocketclip.errors import UserError
from pocketclip.evaluate.linear_probe import Probe, linear_probe
from pocketclip.evaluate.statistics import bootstrap_ratio
from pocketclip.features.encode import NO_IMAGES, encode_texts, image_blocks
from pocketclip.models.bare import bare_tower
from pocketclip.models.dual_encoder import DualEncoder, SharedDualEncoder
from pocketclip.models.inference import Runner, project
from pocketclip.models.start import same_weights, starting_image_encoder, starting_text_encoder
from pocketclip.models.tower import ImageTower, NoTower, TextTower, Tower
from pocketclip.preprocess import PreprocessConfig
from pocketclip.records import EvalResult, Interval
from pocketclip.stages.store import Block
from pocketclip.stages.watch import SILENT, Watch
from pocketclip.tokenizer import Tokenizer

Floats = npt.NDArray[np.float32]
AnyTower = TypeVar("AnyTower", bound=Tower)
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


def image_probe(
    model: PretrainedModel,
    train: Source,
    test: Source,
    *,
    against_start: bool = True,
    seed: int = 0,
    watch: Watch = SILENT,
) -> EvalResult:
    """Accuracy of linear probes of the image tower, before training and after, and of the embedding.

    Args:
        model: whose tower.
        train: labelled images to learn from.
        test: labelled images to be tested on.
        against_start: whether to build the tower as it was before training and compare.
        seed: of the part that the regulariser is chosen on.
        watch: told of the work done and of broken items.

    Raises:
        UserError: images without classes, classes that do not fit together, or a start that cannot be had.
    """
    task = match_classes(read_labels(train), read_labels(test))
    start = starting_image_encoder(model.config) if against_start else None

    def features(runner: Runner) -> Parts:
        return (
            image_part(runner, train, task.train, model.preprocess, "training images", watch),
            image_part(runner, test, task.test, model.preprocess, "test images", watch),
        )

    def tower(encoder: ImageTower) -> Parts:
        return features(tower_runner(model, bare_tower(model.model, encoder, "image"), NoTower()))

    own = model.model.image_encoder
    parts, notes = _before_and_after(own, start, tower, against_start=against_start)
    parts["_embedding"] = _embedding(model, model.model.image_head, parts[""], features)
    metrics = measure(parts, task, seed=seed, device=model.runner.device, watch=watch)
    return unimodal_result("linear_probe", test.name, metrics, notes, parts[""], num_images=len(parts[""][1].labels))


def text_probe(
    model: PretrainedModel,
    train: LabelledTexts,
    test: LabelledTexts,
    *,
    against_start: bool = True,
    seed: int = 0,
    watch: Watch = SILENT,
) -> EvalResult:
    """Accuracy of linear probes of the text tower, before training and after, and of the embedding; as `image_probe`.

    Args:
        model: whose tower.
        train: labelled texts to learn from.
        test: labelled texts to be tested on.
        against_start: whether to build the tower as it was before training and compare.
        seed: of the part that the regulariser is chosen on.
        watch: told of the work done and of broken items.

    Raises:
        UserError: classes that do not fit together, or a start that cannot be had.
    """
    task = match_classes(train.labels, test.labels)
    start = starting_text_encoder(model.config, model.tokenizer) if against_start else None
    before, tokenizer = start if start is not None else (None, model.tokenizer)

    def features(runner: Runner, tokenizer: Tokenizer) -> Parts:
        return (
            text_part(runner, train, task.train, tokenizer, "training texts", watch),
            text_part(runner, test, task.test, tokenizer, "test texts", watch),
        )

    def tower(encoder: TextTower) -> Parts:
        runner = tower_runner(model, NoTower(), bare_tower(model.model, encoder, "text"))
        return features(runner, tokenizer if encoder is before else model.tokenizer)

    own = model.model.text_encoder
    parts, notes = _before_and_after(own, before, tower, against_start=against_start)
    parts["_embedding"] = _embedding(
        model, model.model.text_head, parts[""], lambda runner: features(runner, model.tokenizer)
    )
    metrics = measure(parts, task, seed=seed, device=model.runner.device, watch=watch)
    return unimodal_result("text_probe", test.name, metrics, notes, parts[""], num_captions=len(test))


def _before_and_after(
    own: AnyTower, start: AnyTower | None, features: Callable[[AnyTower], Parts], *, against_start: bool
) -> tuple[dict[str, Parts], list[str]]:
    """Features of a tower, and under `_start` those of the same before training, with what there is to say of it."""
    parts = {"": features(own)}
    if start is None:
        return parts, [RANDOM_START] if against_start else []
    if same_weights(own, start):
        return {**parts, "_start": parts[""]}, [NOT_TRAINED]
    return {**parts, "_start": features(start)}, []


def tower_runner(model: PretrainedModel, image_encoder: ImageTower, text_encoder: TextTower) -> Runner:
    """What encodes with bare towers as exactly as scores ask for, on the model's device."""
    scores = model.runner_for_scores()
    bare = DualEncoder(image_encoder, text_encoder, nn.Identity(), nn.Identity())
    return Runner(bare, device=scores.device, precision=scores.precision, image_size=scores.image_size, heads=False)


def _embedding(model: PretrainedModel, head: nn.Module, towers: Parts, encode: Callable[[Runner], Parts]) -> Parts:
    """Embeddings: the head on the tower's features, or the whole way again where a shared encoder lies between."""
    runner = model.runner_for_scores()
    if isinstance(model.model, SharedDualEncoder):
        return encode(runner)
    head = head.to(runner.device).eval()
    train, test = (Part(project(head, part.features, runner.device), part.labels, part.num_left_out) for part in towers)
    return train, test


def image_part(
    runner: Runner,
    source: Source,
    labels: npt.NDArray[np.int64],
    preprocess: PreprocessConfig,
    what: str,
    watch: Watch,
) -> Part:
    """Features of a source's labelled images.

    Args:
        runner: encodes them.
        source: the images.
        labels: (N,) the class of each, or NO_LABEL.
        preprocess: how they are resized.
        what: they are, for progress and messages.
        watch: told of the work done and of broken items.

    Raises:
        UserError: none can be read.
    """
    parts = image_blocks(source, runner.encode_images, preprocess, watch=watch, work=f"encoding {what}")
    found = Block.join(parts, NO_IMAGES)
    of_found = labels[found["indices"]]
    kept = of_found != NO_LABEL
    if not kept.any():
        raise UserError(f"{source.name}: none of the {what} with a class can be read.")
    return Part(found["features"][kept, 0], of_found[kept], len(source) - int(kept.sum()))


def text_part(
    runner: Runner,
    texts: LabelledTexts,
    labels: npt.NDArray[np.int64],
    tokenizer: Tokenizer,
    what: str,
    watch: Watch,
) -> Part:
    """Features of labelled texts; see `image_part`."""
    features = []
    for first in range(0, len(texts), TEXT_BLOCK):
        block = texts.texts[first : first + TEXT_BLOCK]
        features.append(encode_texts(block, runner.encode_tokens, tokenizer))
        watch.work(f"encoding {what}", first + len(block), len(texts))
    return Part(np.concatenate(features), labels, 0)


def measure(
    parts: Mapping[str, Parts], task: Task, *, seed: int, device: torch.device, watch: Watch
) -> dict[str, Interval | float]:
    """A probe of each kind of features, and how the accuracy changed where there is a `_start`.

    Args:
        parts: by the ending of the metrics' names.
        task: the classes.
        seed: of the part that the regulariser is chosen on.
        device: where to fit.
        watch: told of the fits done.
    """
    num_classes = len(task.class_names)
    probes: dict[str, Probe] = {}
    for ending, (train, test) in parts.items():
        if ending == "_start" and parts["_start"] is parts[""]:
            probes[ending] = probes[""]
            continue
        name = f"probing {ending.strip('_') or 'tower'}"
        probes[ending] = linear_probe(
            train.features,
            train.labels,
            test.features,
            test.labels,
            num_classes=num_classes,
            seed=seed,
            device=device,
            watch=watch,
            work=name,
        )
    metrics = accuracies({ending: probe.correct for ending, probe in probes.items()})
    metrics |= {f"penalty{ending}": probe.penalty for ending, probe in probes.items()}
    return metrics | class_counts(parts[""], num_classes)


def accuracies(correct: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, Interval | float]:
    """`top1_accuracy` of each ending, and `top1_accuracy_change` from `_start` to the empty one, all with intervals.

    Of the change the examples are resampled with both answers together, since the two towers saw the same examples:
    the interval is that of the difference, and narrower than those of its two ends suggest.

    Args:
        correct: (N,) each, whether each test example got its class.
    """
    ones = np.ones(len(correct[""]))
    metrics: dict[str, Interval | float] = {
        f"top1_accuracy{ending}": bootstrap_ratio(hits.astype(np.float64), ones) for ending, hits in correct.items()
    }
    if "_start" in correct:
        change = correct[""].astype(np.float64) - correct["_start"].astype(np.float64)
        metrics["top1_accuracy_change"] = bootstrap_ratio(change, ones)
    return metrics


def class_counts(parts: Parts, num_classes: int) -> dict[str, Interval | float]:
    """How many classes and training examples, and what always answering the commonest training class would score."""
    train, test = parts
    commonest = int(np.bincount(train.labels, minlength=num_classes).argmax())
    return {
        "commonest_class_accuracy": float((test.labels == commonest).mean()),
        "num_classes": float(num_classes),
        "num_training_examples": float(len(train.labels)),
    }


def unimodal_result(
    task: str,
    dataset: str,
    metrics: dict[str, Interval | float],
    notes: list[str],
    parts: Parts,
    *,
    num_images: int = 0,
    num_captions: int = 0,
) -> EvalResult:
    """The record of a probe or of a fine-tuning."""
    left_out = [
        f"{part.num_left_out} {which} examples without a class, or broken, left out"
        for which, part in zip(("training", "test"), parts, strict=True)
        if part.num_left_out
    ]
    return EvalResult(
        task=task,
        dataset=dataset,
        split="all",
        num_images=num_images,
        num_captions=num_captions,
        metrics=metrics,
        notes=[*notes, *left_out],
    )
