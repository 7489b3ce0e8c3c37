"""Linear classifiers of frozen features: multinomial logistic regressions, by L-BFGS to the minimum or by steps of SGD.

What is fitted with which strength is chosen in `sweeps`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

MAX_ITERATIONS = 1000
EPOCHS, MIN_STEPS = 10, 1000
"""Of gradient descent: as many passes, or as many steps, whichever is more."""
BATCH_SIZE = 512
MOMENTUM = 0.9

Classes = npt.NDArray[np.int64]


class Classifier(NamedTuple):
    """Weights and bias of a linear classifier."""

    weight: Float[Tensor, "C F"]
    bias: Float[Tensor, " C"]

    def __call__(self, features: Float[Tensor, "N F"]) -> Float[Tensor, "N C"]:
        """Logits of each class."""
        return features @ self.weight.T + self.bias


def stratified_parts(labels: Classes, share: float, seed: int) -> tuple[Classes, Classes]:
    """Example numbers in two parts, ascending: those that stay, one of each class at least, and those held out.

    The share is of the examples of each class, rounded, and at least one where a class has two.
    """
    random = np.random.default_rng(seed)
    is_held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        is_held[members[: min(len(members) - 1, max(1, round(len(members) * share)))]] = True
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def fit_classifier(
    features: Float[Tensor, "N F"],
    labels: Int[Tensor, " N"],
    *,
    num_classes: int,
    penalty: float,
    start: Classifier | None = None,
) -> Classifier:
    """The minimum of the mean cross-entropy plus penalty / 2 times the squared norm of the weights, by L-BFGS.

    scikit-learn's LogisticRegression has the same minimum with C = 1 / (penalty x N). The bias is not penalised, so
    adding a constant to every feature changes no answer.

    It begins at `start`, or at zero; the minimum is the same, and nearer from that of a like penalty.
    """
    shape = (num_classes, features.shape[1] + 1)
    joined = features.new_zeros(shape) if start is None else torch.cat([start.weight, start.bias[:, None]], 1)
    joined.requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [joined],
        max_iter=MAX_ITERATIONS,
        tolerance_grad=1e-5,
        tolerance_change=1e-9,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        weight = joined[:, :-1]
        value = F.cross_entropy(features @ weight.T + joined[:, -1], labels) + penalty / 2 * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return Classifier(joined.detach()[:, :-1], joined.detach()[:, -1])


@torch.no_grad()
def fit_by_steps(
    features: Float[Tensor, "N F"],
    labels: Int[Tensor, " N"],
    *,
    num_classes: int,
    learning_rates: Sequence[float],
    seed: int = 0,
) -> list[Classifier]:
    """A fully connected layer that begins with zeros, after SGD with momentum on the cross-entropy, without a penalty.

    One for each of several learning rates, which fall to 0 along half a cosine; all see the same batches, which are
    drawn anew in each pass. `seed` is of their order.
    """
    rates = features.new_tensor(learning_rates).repeat_interleave(num_classes)
    weight, bias = features.new_zeros((features.shape[1], len(rates))), features.new_zeros(len(rates))
    velocity, bias_velocity = torch.zeros_like(weight), torch.zeros_like(bias)
    num_batches = -(-len(labels) // BATCH_SIZE)
    num_steps = max(EPOCHS * num_batches, MIN_STEPS)
    random = torch.Generator().manual_seed(seed)
    batches: Sequence[Tensor] = ()
    for step in range(num_steps):
        if step % num_batches == 0:
            batches = torch.randperm(len(labels), generator=random).to(labels.device).split(BATCH_SIZE)
        rows = batches[step % num_batches]
        own = features[rows]
        logits = torch.addmm(bias, own, weight)
        gradient = logits.view(len(rows), len(learning_rates), num_classes).softmax(2)
        gradient[torch.arange(len(rows), device=rows.device), :, labels[rows]] -= 1
        gradient = gradient.view_as(logits) / len(rows)
        velocity = torch.addmm(velocity, own.T, gradient, beta=MOMENTUM)
        bias_velocity = MOMENTUM * bias_velocity + gradient.sum(0)
        now = rates * (0.5 + 0.5 * math.cos(math.pi * step / num_steps))
        weight -= now * velocity
        bias -= now * bias_velocity
    parts = zip(weight.T.split(num_classes), bias.split(num_classes), strict=True)
    return [Classifier(*part) for part in parts]
