"""A class by the vote of the nearest training images: a plain vote, and the published one by likeness. No torch.

Each of the k nearest votes for its class, plainly or with weight exp(cosine / temperature).
Reference: instance discrimination, https://arxiv.org/abs/1805.01978, section 3.4; DINO, https://arxiv.org/abs/2104.14294,
whose temperature is 0.07.
"""

import numpy as np
import numpy.typing as npt

from pocketclip.embedder import Floats
from pocketclip.evaluate.ranked import TIE

Ids = npt.NDArray[np.int64]
Votes = npt.NDArray[np.float64]
_BLOCK_ELEMENTS = 1 << 23  # cosines held at a time: 32 MiB
_EQUAL_VOTES = 1e-9
"""Shares of votes closer than this are equal: sums of the same weights in another order differ by about 1e-16."""


def neighbour_votes(
    train: Floats, train_labels: Ids, test: Floats, *, num_classes: int, k: int, temperature: float
) -> tuple[Votes, Votes]:
    """What share of the votes of its k nearest training images each class gets, weighted and plain; two (M, C).

    Neighbours whose cosines differ by less than 1e-6 from that of the k-th share the places that are left, so neither
    the order of the training images nor that of the test images changes a vote.

    Args:
        train: (N, D), of any length but zero.
        train_labels: (N,), numbers below `num_classes`.
        test: (M, D), as `train`.
        num_classes: C.
        k: at most N.
        temperature: of the weighted votes; the smaller, the more the nearest count.
    """
    assert 1 <= k <= len(train)
    columns = np.ascontiguousarray(unit_length(train).T)
    test = unit_length(test)
    weighted, plain = (np.zeros((len(test), num_classes)) for _ in range(2))
    step = max(1, _BLOCK_ELEMENTS // max(len(train), num_classes))
    for start in range(0, len(test), step):
        cosines = test[start : start + step] @ columns
        last = np.partition(cosines, len(train) - k, axis=1)[:, len(train) - k]
        rows, near = np.nonzero(cosines >= last[:, None] - TIE)
        found = cosines[rows, near].astype(np.float64)
        tied = found <= last[rows] + TIE
        num_tied = np.bincount(rows[tied], minlength=len(cosines))
        left = k - np.bincount(rows[~tied], minlength=len(cosines))
        places = np.where(tied, (left / num_tied)[rows], 1.0)
        strengths = places * np.exp((found - cosines.max(axis=1)[rows]) / temperature)
        cells, size = rows * num_classes + train_labels[near], len(cosines) * num_classes
        for votes, weights in ((weighted, strengths), (plain, places)):
            counted = np.bincount(cells, weights, size).reshape(len(cosines), num_classes)
            votes[start : start + step] = counted / counted.sum(axis=1, keepdims=True)
    return weighted, plain


def vote_ranks(votes: Votes, right: Ids) -> tuple[Ids, Ids]:
    """Where the right class of each of M images stands, 0 for first, and which comes first; ties count against it."""
    own = np.take_along_axis(votes, right[:, None], axis=1)
    others = votes.copy()
    np.put_along_axis(others, right[:, None], -np.inf, axis=1)
    ranks = np.count_nonzero(others >= own - _EQUAL_VOTES, axis=1)
    return ranks, np.where(ranks == 0, right, others.argmax(axis=1))


def unit_length(rows: Floats) -> Floats:
    """(N, D) with rows of length 1; zeros stay zeros."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)
