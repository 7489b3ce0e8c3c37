"""Image-text retrieval as the papers measure it.

Every caption is a query over all images, each of which stands in the gallery once. An image is found when any of its
captions is. Ties count against the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from pocketclip.errors import UserError
from pocketclip.evaluate.statistics import HitsAndCounts, bootstrap_ratios
from pocketclip.records import Interval

TIE = 1e-6
"""Cosines closer than this are a tie: float32 products of equal vectors differ by about 1e-7 with their place."""
RECALLS = (1, 5, 10)
_BLOCK_ELEMENTS = 1 << 24  # scores held at a time: 64 MiB


@dataclass(frozen=True)
class Ranks:
    """Where each query's answer stands, 0 for first."""

    text_to_image: npt.NDArray[np.int64]
    """(Q,), rank of a caption's image among all images."""
    image_to_text: npt.NDArray[np.int64]
    """(N,), rank of an image's best caption among the captions of all other images."""
    text_images: npt.NDArray[np.int64]
    """(Q,), the image each caption was written for."""


def retrieval_ranks(
    image_embeddings: Float[ndarray, "N D"],
    text_embeddings: Float[ndarray, "Q D"],
    text_images: Int[ndarray, " Q"],
) -> Ranks:
    """Rank every query in both directions, block by block, so that memory does not grow with N x Q.

    Args:
        image_embeddings: (N, D), unit length per row.
        text_embeddings: (Q, D), unit length per row.
        text_images: (Q,), row of the image each text was written for; every image has a text.

    Raises:
        UserError: no data, an image without a caption, or embeddings that are not finite.
    """
    num_images, num_texts = len(image_embeddings), len(text_embeddings)
    captions = np.bincount(text_images, minlength=num_images) if num_texts else np.zeros(num_images)
    if num_images == 0 or (captions == 0).any():
        raise UserError(f"Retrieval needs a caption for every image ({int((captions == 0).sum())} images have none).")
    if not (np.isfinite(image_embeddings).all() and np.isfinite(text_embeddings).all()):
        raise UserError("Retrieval: the model gave embeddings that are not finite.")
    images, texts = torch.from_numpy(image_embeddings).float(), torch.from_numpy(text_embeddings).float()
    owners = torch.from_numpy(text_images).long()
    own = torch.cat(
        [(part * images[of]).sum(1) for part, of in zip(texts.split(65536), owners.split(65536), strict=True)]
    )
    best = torch.full((num_images,), -torch.inf).scatter_reduce(0, owners, own, "amax")

    text_ranks = torch.zeros(num_texts, dtype=torch.int64)
    image_ranks = torch.zeros(num_images, dtype=torch.int64)
    rows = max(1, _BLOCK_ELEMENTS // num_texts)
    for start in range(0, num_images, rows):
        scores = images[start : start + rows] @ texts.T
        inside = ((owners >= start) & (owners < start + rows)).nonzero().squeeze(1)
        scores[owners[inside] - start, inside] = -torch.inf  # an image and its own captions are no rivals
        text_ranks += _count(scores >= own - TIE, dim=0)
        image_ranks[start : start + rows] += _count(scores >= best[start : start + rows, None] - TIE, dim=1)
    return Ranks(text_ranks.numpy(), image_ranks.numpy(), owners.numpy())


def _count(flags: Tensor, dim: int) -> Tensor:
    return flags.sum(dim, dtype=torch.int32).long()


def point_metrics(ranks: Ranks) -> dict[str, float]:
    """Recall at 1, 5 and 10 as fractions and the median rank (1 for first), both directions."""
    metrics = {}
    for direction, found in (("text_to_image", ranks.text_to_image), ("image_to_text", ranks.image_to_text)):
        for k in RECALLS:
            metrics[f"{direction}_recall@{k}"] = float((found < k).mean())
        metrics[f"{direction}_median_rank"] = float(np.median(found) + 1)
    return metrics


def retrieval_metrics(ranks: Ranks) -> dict[str, Interval | float]:
    """`point_metrics` and the mean recall, with 95 % intervals around recalls, from resampling images."""
    return averaged_metrics([ranks])


def averaged_metrics(folds: Sequence[Ranks]) -> dict[str, Interval | float]:
    """The mean of each metric over galleries that were ranked apart; images are resampled within their gallery.

    `mean_recall` is the mean of the six recalls, which papers also call average recall.
    """
    points = [point_metrics(ranks) for ranks in folds]
    metrics: dict[str, Interval | float] = {
        name: float(np.mean([point[name] for point in points])) for name in points[0]
    }
    recalls, metrics["mean_recall"] = bootstrap_ratios([_found_by_image(ranks) for ranks in folds])
    names = [f"{direction}_recall@{k}" for direction in ("text_to_image", "image_to_text") for k in RECALLS]
    return {**metrics, **dict(zip(names, recalls, strict=True))}


def _found_by_image(ranks: Ranks) -> HitsAndCounts:
    """(N, 6) and (N, 6): of each image, queries answered within 1, 5 and 10, and queries; captions, then the image."""
    num_images = len(ranks.image_to_text)
    captions = np.bincount(ranks.text_images, minlength=num_images).astype(np.float64)
    found = [np.bincount(ranks.text_images, weights=ranks.text_to_image < k, minlength=num_images) for k in RECALLS] + [
        (ranks.image_to_text < k).astype(np.float64) for k in RECALLS
    ]
    ones = np.ones(num_images)
    return np.stack(found, axis=1), np.stack([captions] * len(RECALLS) + [ones] * len(RECALLS), axis=1)


def mean_recall(metrics: Mapping[str, float]) -> float:
    """Mean of the six recalls: the number to choose a model by on a validation split."""
    return float(np.mean([value for name, value in metrics.items() if "_recall@" in name]))
