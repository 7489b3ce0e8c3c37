"""A linear classifier of few examples: ridge regression onto classes, whose penalty needs no further labels. No torch.

Targets are 1 for an example's class and -1 for the others, as in big_vision's few-shot evaluator, whose penalty is a
constant. Here it is chosen by leaving each fitted example out in turn, which ridge regression answers in closed form.
Reference: Scaling Vision Transformers, https://arxiv.org/abs/2106.04560.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pocketclip.embedder import Floats

Ids = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
PENALTIES = tuple(10 ** (-number / 2) for number in range(-2, 11))
"""Strengths that are tried, from strong to weak, 10 to 1e-5; with features of a mean squared length of 1."""


class Ridge(NamedTuple):
    """A fitted classifier."""

    weight: Doubles
    """(F, C)."""
    bias: Doubles
    """(C,)."""
    penalty: float
    """The chosen strength."""

    def __call__(self, features: Floats) -> Floats:
        """(M, F) to (M, C) scores."""
        scores: Floats = features @ self.weight.astype(np.float32) + self.bias.astype(np.float32)
        return scores


def fit_ridge(features: Floats, labels: Ids, num_classes: int) -> Ridge:
    """The minimum of the mean squared error plus a penalty times the squared norm of the weights, the bias left free.

    The penalty is that with the least squared error on examples that are left out one by one; the strongest where a
    class has a single example, which could not be learned without it.

    Args:
        features: (N, F), which need not be normalised.
        labels: (N,), each class at least once.
        num_classes: C, at least 2.
    """
    rows = features.astype(np.float64)
    shift = rows.mean(axis=0)
    rows -= shift
    scale = 1 / max(float(np.sqrt(np.square(rows).sum(axis=1).mean())), 1e-12)
    targets = np.full((len(labels), num_classes), -1.0)
    targets[np.arange(len(labels)), labels] = 1.0
    mean = targets.mean(axis=0)
    left, sizes, right = np.linalg.svd(rows * scale, full_matrices=False)
    turned = left.T @ (targets - mean)  # what of the targets lies along each direction of the features
    alone = np.bincount(labels, minlength=num_classes).min() < 2
    tried = PENALTIES[:1] if alone else PENALTIES
    penalty = min(tried, key=lambda strength: _left_out_error(left, sizes, turned, targets, strength))
    weight = scale * right.T @ ((sizes / (sizes**2 + penalty * len(labels)))[:, None] * turned)
    return Ridge(weight, mean - shift @ weight, penalty)


def _left_out_error(left: Doubles, sizes: Doubles, turned: Doubles, targets: Doubles, penalty: float) -> float:
    """The mean squared error on each example of the fit to all others: its residual over one minus its leverage."""
    kept = sizes**2 / (sizes**2 + penalty * len(targets))
    residuals = targets - targets.mean(axis=0) - left @ (kept[:, None] * turned)
    leverages = 1 / len(targets) + np.square(left) @ kept
    return float(np.square(residuals / np.maximum(1 - leverages, 1e-12)[:, None]).mean())
