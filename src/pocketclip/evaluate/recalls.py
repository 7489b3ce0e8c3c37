"""Recalls and the other scores of a ranking, from the ranks of its queries, in one gallery or several.

A model with a bank (`Hubs`) is ranked by corrected scores, too: those have the same names with `corrected_` before.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketclip.evaluate.ranked import DIRECTIONS, PRECISIONS, Ranks
from pocketclip.evaluate.statistics import Floats, Units, bootstrap_ratios, ratios, resampled_ratios
from pocketclip.evaluate.task_data import Answers
from pocketclip.records import Interval

RANKS = (1, 5, 10)
RECALLS = tuple(f"{direction}_recall@{k}" for direction in DIRECTIONS for k in RANKS)
CORRECTED = "corrected_"
"""Before the name of a score of corrected ranks."""
GAIN = "corrected_mean_recall_gain"
"""How much more the mean recall is with corrected scores, on the same pictures."""
MEANS = {"mean_recall": RECALLS, "corrected_mean_recall": tuple(f"{CORRECTED}{name}" for name in RECALLS)}


def point_metrics(*galleries: Ranks) -> dict[str, float]:
    """Recall at 1, 5 and 10 as fractions, and median and mean rank (1 for first), both directions, mean over galleries.

    Mean average precision and R-precision, too, where the ranks know of all right answers.
    """
    metrics: dict[str, float] = {}
    for direction in DIRECTIONS:
        ranks: list[npt.NDArray[np.int64]] = [getattr(gallery, direction) for gallery in galleries]
        metrics |= {f"{direction}_recall@{k}": float(np.mean([(own < k).mean() for own in ranks])) for k in RANKS}
        metrics[f"{direction}_median_rank"] = float(np.mean([np.median(own) + 1 for own in ranks]))
        metrics[f"{direction}_mean_rank"] = float(np.mean([own.mean() + 1 for own in ranks]))
        for name, called in PRECISIONS.items():
            if all(f"{direction}_{name}" in gallery.precisions for gallery in galleries):
                own = [gallery.precisions[f"{direction}_{name}"].mean() for gallery in galleries]
                metrics[f"{direction}_{called}"] = float(np.mean(own))
    return metrics


def retrieval_metrics(*galleries: Ranks, corrected: Sequence[Ranks] = ()) -> dict[str, Interval | float]:
    """`point_metrics` with 95 % intervals around all that are means, images resampled within their gallery.

    Ranks of the same galleries by `corrected` scores add theirs, and what the mean recall gains, from the same draws.
    """
    units = [recall_units(ranks) for ranks in galleries]
    metrics: dict[str, Interval | float] = {**point_metrics(*galleries), **bootstrap_ratios(units, MEANS)}
    if not corrected:
        return metrics
    others = [as_corrected(recall_units(ranks)) for ranks in corrected]
    metrics |= {**as_corrected(point_metrics(*corrected)), **bootstrap_ratios(others, MEANS)}
    return {**metrics, GAIN: _gain([{**own, **other} for own, other in zip(units, others, strict=True)])}


def as_corrected(scores: Mapping[str, Any]) -> dict[str, Any]:
    """With the names of scores, or of ranks, that are corrected."""
    return {f"{CORRECTED}{name}": value for name, value in scores.items()}


def _gain(units: Sequence[Units]) -> Interval:
    scores, both = ratios(units, MEANS), tuple(reversed(MEANS))
    draws = resampled_ratios(units, MEANS, asked=both)
    value, resampled = (of[both[0]] - of[both[1]] for of in (scores, draws))
    low, high = np.percentile(resampled, [2.5, 97.5]).tolist()
    return Interval(value=float(value), low=low, high=high)


def recall_units(ranks: Ranks) -> Units:
    """Of each recall, queries of each image that were answered within 1, 5 or 10, and queries; then the precisions."""
    num_images = len(ranks.image_to_text)
    captions = np.bincount(ranks.text_images, minlength=num_images).astype(np.float64)
    units: dict[str, tuple[Floats, Floats]] = {}
    for k in RANKS:
        hits = np.bincount(ranks.text_images, ranks.text_to_image < k, num_images).astype(np.float64)
        units[f"text_to_image_recall@{k}"] = hits, captions
    for k in RANKS:
        units[f"image_to_text_recall@{k}"] = (ranks.image_to_text < k).astype(np.float64), np.ones(num_images)
    for name, called in PRECISIONS.items():
        if (found := ranks.precisions.get(f"text_to_image_{name}")) is not None:
            units[f"text_to_image_{called}"] = _sums(ranks.text_images, found, num_images), captions
        if (found := ranks.precisions.get(f"image_to_text_{name}")) is not None:
            units[f"image_to_text_{called}"] = found, np.ones(num_images)
    return units


def _sums(owners: npt.NDArray[np.int64], values: Floats, num_owners: int) -> Floats:
    return np.bincount(owners, values, num_owners).astype(np.float64)


def mean_recall(metrics: Mapping[str, float]) -> float:
    """Mean of the six recalls, which papers also call average recall: the number to choose a model by."""
    recalls = [value for name, value in metrics.items() if "_recall@" in name and not name.startswith(CORRECTED)]
    return float(np.mean(recalls))


def joined(galleries: Sequence[Ranks]) -> dict[str, npt.NDArray[Any]]:
    """The ranks and precisions of all queries, one gallery after the other."""
    ranks = {way: np.concatenate([getattr(own, way) for own in galleries]) for way in DIRECTIONS}
    return ranks | {
        name: np.concatenate([own.precisions[name] for own in galleries]) for name in galleries[0].precisions
    }


def part(answers: Answers, owners: npt.NDArray[np.int64], first: int, end: int) -> Ranks:
    """The gallery of images from `first` to `end`, of what `joined` gives."""
    own = (owners >= first) & (owners < end)
    precisions = {
        f"{way}_{name}": answers[f"{way}_{name}"][rows]
        for way, rows in zip(DIRECTIONS, (own, np.arange(first, end)), strict=True)
        for name in PRECISIONS
        if f"{way}_{name}" in answers  # those of an earlier version have none
    }
    return Ranks(answers["text_to_image"][own], answers["image_to_text"][first:end], owners[own] - first, precisions)
