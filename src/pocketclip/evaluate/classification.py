"""Which class comes first for each image: ranks, accuracies with intervals, and how every class fared. No torch.

Ties count against the model, as in retrieval: a wrong class within 1e-6 of the right one's cosine is before it.
Classes of one name have one embedding and would always tie; of them the first is taken, as an argmax takes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketclip.data.labels import NO_LABEL
from pocketclip.embedder import Embedder, Floats
from pocketclip.errors import UserError
from pocketclip.evaluate.ranked import TIE
from pocketclip.evaluate.statistics import bootstrap_mean_of_classes, bootstrap_ratios, bootstrap_statistic
from pocketclip.records import ClassScore, Interval

Ids = npt.NDArray[np.int64]
TOP = {"top1_accuracy": 1, "top5_accuracy": 5}
MEAN_CLASS = "mean_class_accuracy"
MACRO_F1 = "macro_f1"
MANY_CLASSES = 30
"""Above which a class's table keeps only its commonest answers."""
_COMMONEST = 4
_BLOCK_ELEMENTS = 1 << 22  # scores held at a time: 16 MiB


@dataclass(frozen=True)
class Answers:
    """What came of N images."""

    ranks: Ids
    """(N,), where the best right class stands, 0 for first."""
    predicted: Ids
    """(N,), the class that comes first; where it ties with a right one, the wrong one."""
    confidence: Floats
    """(N,), the largest cosine of any class."""


def classify(images: Floats, classes: Floats, right: Ids, class_names: Sequence[str] = ()) -> Answers:
    """Rank C classes for each of N images, block by block, so that memory does not grow with N x C.

    Args:
        images: (N, D), unit length per row.
        classes: (C, D), unit length per row.
        right: (N, R), the right classes of each image, at least one, then NO_LABEL; or (N,), one each.
        class_names: (C,), to tell classes of one name.
    """
    right = right[:, None] if right.ndim == 1 else right
    later = _later_namesakes(class_names, len(classes))
    ranks, predicted = np.empty(len(images), np.int64), np.empty(len(images), np.int64)
    confidence = np.empty(len(images), np.float32)
    rows = max(1, _BLOCK_ELEMENTS // len(classes))
    columns = np.ascontiguousarray(classes.T)
    for start in range(0, len(images), rows):
        part = slice(start, start + rows)
        scores = images[part] @ columns
        own = np.where(right[part] == NO_LABEL, right[part, :1], right[part])
        own_scores = np.take_along_axis(scores, own, axis=1)
        best = own_scores.max(axis=1)
        confidence[part] = scores.max(axis=1)
        np.put_along_axis(scores, own, -np.inf, axis=1)  # right classes are no rivals of each other
        for first, others in later.items():
            scores[np.ix_((own == first).any(axis=1), others)] = -np.inf
        ranks[part] = np.count_nonzero(scores >= (best - TIE)[:, None], axis=1)
        first_right = np.take_along_axis(own, own_scores.argmax(axis=1)[:, None], axis=1)[:, 0]
        predicted[part] = np.where(ranks[part] == 0, first_right, scores.argmax(axis=1))
    return Answers(ranks, predicted, confidence)


def _later_namesakes(class_names: Sequence[str], num_classes: int) -> dict[int, list[int]]:
    """Of each class the ones behind it that have its name, where there are any."""
    assert len(class_names) in (0, num_classes)
    places: dict[str, list[int]] = {}
    for number, name in enumerate(class_names):
        places.setdefault(name, []).append(number)
    return {own[at]: own[at + 1 :] for own in places.values() for at in range(len(own) - 1)}


def accuracies(ranks: Ids, classes: Ids | None, num_candidates: int) -> dict[str, Interval]:
    """Top-1, top-5 where more than five are chosen among, and the mean of the classes' own, with 95 % intervals.

    `classes` are (N,), the class that each image counts for; None where images have no single one.
    """
    tops = {name: k for name, k in TOP.items() if k == 1 or num_candidates > k}
    ones = np.ones(len(ranks))
    metrics = bootstrap_ratios([{name: ((ranks < k).astype(np.float64), ones) for name, k in tops.items()}])
    if classes is not None:
        metrics[MEAN_CLASS] = bootstrap_mean_of_classes((ranks == 0).astype(np.float64), classes)
    return metrics


def macro_f1(classes: Ids, answered: Ids) -> Interval:
    """Mean F1 of the classes that an image is of, as WILDS has it, with its 95 % interval over images.

    From (N,) classes of images and (N,) classes that were answered, or NO_LABEL for others. A class that no image of a
    draw is of is left out of its mean, though it may be answered.
    """
    size = int(max(classes.max(), answered.max())) + 1
    right, given = classes == answered, answered != NO_LABEL

    def mean(times: npt.NDArray[np.float64]) -> float:
        images = np.bincount(classes, times, minlength=size)
        answers = np.bincount(answered[given], times[given], minlength=size)
        there = images > 0
        common = np.bincount(classes[right], times[right], minlength=size)
        return float((2 * common[there] / (images + answers)[there]).mean())

    return bootstrap_statistic(mean, len(classes))


def item_shares(ranks: Ids, classes: Ids | None, num_candidates: int) -> dict[str, npt.NDArray[np.float64]]:
    """(N,) of each of `accuracies` what every image adds to it, so that their mean is the score.

    For the mean of classes an image counts the more, the fewer its class has.
    """
    shares = {name: (ranks < k).astype(np.float64) for name, k in TOP.items() if k == 1 or num_candidates > k}
    if classes is not None:
        counts = np.bincount(classes)
        weights = len(classes) / (np.count_nonzero(counts) * counts[classes])
        shares[MEAN_CLASS] = (ranks == 0) * weights
    return shares


def class_scores(classes: Ids, answered: Ids, names: Sequence[str]) -> list[ClassScore]:
    """How each class fared, from (N,) classes of images and (N,) classes that were answered, or NO_LABEL for others."""
    size = len(names)
    counts = np.bincount(classes, minlength=size)
    pairs, times = np.unique(classes * (size + 1) + answered + 1, return_counts=True)
    answers: list[list[tuple[int, int]]] = [[] for _ in names]
    for pair, count in sorted(zip(pairs.tolist(), times.tolist(), strict=True), key=lambda own: -own[1]):
        own, given = divmod(pair, size + 1)
        if given > 0:
            answers[own].append((given - 1, count))
    kept = size if size <= MANY_CLASSES else _COMMONEST
    right = np.bincount(classes[classes == answered], minlength=size)
    return [
        ClassScore(
            name=name,
            num_images=int(counts[number]),
            top1_accuracy=float(right[number] / counts[number]) if counts[number] else None,
            answers=answers[number][:kept],
        )
        for number, name in enumerate(names)
    ]


def check_finite(images: Floats, model: Embedder, place: str) -> None:
    """A UserError where a model gave embeddings that are not finite."""
    if broken := int((~np.isfinite(images).all(axis=1)).sum()):
        raise UserError(f"{model.name}: gave {broken:,} embeddings of images of {place} that are not finite.")
