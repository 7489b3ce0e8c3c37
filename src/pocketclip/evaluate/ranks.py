"""Where right answers stand among all that is ranked: exactly, with ties, block by block, in both directions."""

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from pocketclip.errors import UserError
from pocketclip.evaluate.ranked import FOLD, TIE, Counts, Ranks, Shares, Taken

_BLOCK_ELEMENTS = 1 << 24  # scores held at a time: 64 MiB
_FEW = 8
"""Right answers of a query up to which all rivals are compared with each; above, sorting them is faster."""


def retrieval_ranks(
    image_embeddings: Float[ndarray, "N D"],
    text_embeddings: Float[ndarray, "Q D"],
    text_images: Int[ndarray, " Q"],
    same_texts: Int[ndarray, " Q"] | None = None,
    taken: Taken | None = None,
) -> Ranks:
    """Rank every query in both directions, block by block, so that memory does not grow with N x Q.

    Args:
        image_embeddings: (N, D), unit length per row.
        text_embeddings: (Q, D), unit length per row.
        text_images: (Q,), row of the image each text was written for; every image has a text.
        same_texts: (Q,), equal where texts are the same: then every image that has a text is right for it, and each
            such text for the image. None where a text is right for its own image alone.
        taken: (N,) and (Q,) numbers that are taken from the scores of what is ranked: of the images where a text
            asks, of the texts where an image asks. None ranks by the cosine.

    Raises:
        UserError: no data, an image without a caption, or embeddings that are not finite.
    """
    num_images, num_texts = len(image_embeddings), len(text_embeddings)
    captions = np.bincount(text_images, minlength=num_images) if num_texts else np.zeros(num_images)
    if num_images == 0 or (captions == 0).any():
        raise UserError(f"Retrieval needs a caption for every image ({int((captions == 0).sum())} images have none).")
    if not (np.isfinite(image_embeddings).all() and np.isfinite(text_embeddings).all()):
        raise UserError("Retrieval: the model gave embeddings that are not finite.")
    number, first, times = np.arange(num_texts), np.arange(num_texts), np.ones(num_texts, np.int64)
    if same_texts is not None:  # each different text is ranked once, and counts as often as it stands there
        _, first, number, times = np.unique(same_texts, return_index=True, return_inverse=True, return_counts=True)
    pairs = np.stack([number, text_images])  # of a text and an image that are right for each other
    pairs = pairs if same_texts is None else np.unique(pairs, axis=1)
    images, texts = (torch.from_numpy(part).float() for part in (image_embeddings, text_embeddings[first]))
    numbers = None if taken is None else (torch.from_numpy(taken[0]), torch.from_numpy(taken[1][first]))
    right, counted = torch.from_numpy(pairs).long(), torch.from_numpy(times)
    text_counts, image_counts = count_rivals(images, texts, right, counted, numbers)
    of_texts = precision_shares(pairs[0], text_counts, np.ones_like(pairs[0]), len(first))
    of_images = precision_shares(pairs[1], image_counts, times[pairs[0]], num_images)
    precisions = {f"text_to_image_{name}": values[number] for name, values in of_texts.items()}
    precisions |= {f"image_to_text_{name}": values for name, values in of_images.items()}
    text_ranks = least(pairs[0], text_counts, len(first))[number]
    return Ranks(text_ranks, least(pairs[1], image_counts, num_images), text_images.astype(np.int64), precisions)


def fold_ranks(
    image_embeddings: Float[ndarray, "N D"],
    text_embeddings: Float[ndarray, "Q D"],
    text_images: Int[ndarray, " Q"],
    indices: Int[ndarray, " N"],
    same_texts: Int[ndarray, " Q"] | None = None,
    taken: Taken | None = None,
) -> list[Ranks]:
    """`retrieval_ranks` of each fold: its captions and its images, none of the others.

    A fold is a thousand consecutive images of the source, as in the evaluation of VSE++ that later papers follow
    (https://arxiv.org/abs/1707.05612). An image that could not be read leaves its own fold smaller and moves no other.
    `indices` are the images' numbers in the source.
    """
    folds: Counts = indices // FOLD
    ranks = []
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        texts = np.flatnonzero(folds[text_images] == fold)
        own_images = np.searchsorted(rows, text_images[texts])  # rows of the fold are in order
        same = None if same_texts is None else same_texts[texts]
        own = None if taken is None else (taken[0][rows], taken[1][texts])
        ranks.append(retrieval_ranks(image_embeddings[rows], text_embeddings[texts], own_images, same, own))
    return ranks


def count_rivals(
    images: Tensor, texts: Tensor, pairs: Tensor, times: Tensor, taken: tuple[Tensor, Tensor] | None = None
) -> tuple[Counts, Counts]:
    """Of every right pair of a text and an image, how many wrong images and how many wrong texts are as near.

    A text counts as many `times` as it stands there. What is `taken` from scores comes off both, rivals and own.
    """
    own = torch.cat([(texts[text] * images[image]).sum(1) for text, image in (pairs.split(65536, dim=1))])
    text_own, image_own = (own, own) if taken is None else (own - taken[0][pairs[1]], own - taken[1][pairs[0]])
    by_text, by_image = torch.argsort(pairs[0], stable=True), torch.argsort(pairs[1], stable=True)
    text_counts, image_counts = torch.zeros(len(own), dtype=torch.int64), torch.zeros(len(own), dtype=torch.int64)
    text_sizes = torch.bincount(pairs[0], minlength=len(texts))
    image_sizes = torch.bincount(pairs[1], minlength=len(images))
    weights = None if bool((times == 1).all()) else times
    ends = image_sizes.cumsum(0)
    rows = max(1, _BLOCK_ELEMENTS // len(texts))
    for start in range(0, len(images), rows):
        scores = images[start : start + rows] @ texts.T
        sizes = image_sizes[start : start + rows]
        inside = by_image[int(ends[start] - sizes[0]) : int(ends[start + len(scores) - 1])]
        scores[pairs[1][inside] - start, pairs[0][inside]] = -torch.inf  # right answers are no rivals
        of_texts = of_images = scores
        if taken is not None:
            of_texts = scores - taken[0][start : start + rows, None]
            of_images = scores - taken[1]
        text_counts[by_text] += _at_least(of_texts.T, text_sizes, text_own[by_text], None)
        image_counts[inside] += _at_least(of_images, sizes, image_own[inside], weights)
    return text_counts.numpy(), image_counts.numpy()


def _at_least(scores: Tensor, sizes: Tensor, own: Tensor, weights: Tensor | None) -> Tensor:
    """(P,) how many of the scores in a row reach each of the `sizes[row]` values of `own` that are the row's."""
    counts = torch.zeros(len(own), dtype=torch.int64)
    starts = sizes.cumsum(0) - sizes
    for turn in range(min(_FEW, int(sizes.max()))):
        rows = (sizes > turn).nonzero().squeeze(1)
        which = starts[rows] + turn
        flags = (scores if len(rows) == len(scores) else scores[rows]) >= own[which, None] - TIE
        counts[which] = _sum(flags, weights)
    for row in (sizes > _FEW).nonzero().squeeze(1).tolist():
        others = slice(int(starts[row]) + _FEW, int(starts[row] + sizes[row]))
        values, order = scores[row].sort()
        above = torch.ones(len(order), dtype=torch.int64) if weights is None else weights[order]
        passed = torch.cat([torch.zeros(1, dtype=torch.int64), above.cumsum(0)])
        counts[others] = passed[-1] - passed[torch.searchsorted(values, own[others] - TIE)]
    return counts


def _sum(flags: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return flags.sum(1, dtype=torch.int32).long()
    return (flags.double() @ weights.double()).long()


def least(owners: Counts, counts: Counts, num_owners: int) -> Counts:
    """(num_owners,) the least count of each owner."""
    least = np.full(num_owners, np.iinfo(np.int64).max)
    np.minimum.at(least, owners, counts)
    return least


def precision_shares(owners: Counts, counts: Counts, times: Counts, num_owners: int) -> dict[str, Shares]:
    """Average precision and R-precision of each query that owns right answers, each of which stands there some times.

    The k-th right answer of a query, behind r rivals, has rank r + k: average precision is the mean of k / (r + k), and
    R-precision the share of right ones among the first R, where R are right (Manning et al., Introduction to
    Information Retrieval, 2008, section 8.4).
    """
    order = np.lexsort((counts, owners))
    owner, rivals, count = owners[order], counts[order], times[order]
    passed = np.cumsum(count) - count
    earlier = passed - passed[np.searchsorted(owner, owner)]  # right answers of the same query before these
    num_right = np.bincount(owner, count, num_owners)
    place = rivals + earlier
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int((place + count).max()) + 1))])
    shares = np.where(
        count == 1, (earlier + 1) / (place + 1), count - rivals * (harmonic[place + count] - harmonic[place])
    )
    among_first = np.clip(num_right[owner] - place, 0, count)
    return {
        "average_precision": np.bincount(owner, shares, num_owners) / num_right,
        "r_precision": np.bincount(owner, among_first, num_owners) / num_right,
    }
