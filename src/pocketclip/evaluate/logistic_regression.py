"""How much of some classes frozen features know: a multinomial logistic regression, as CLIP's linear probe.

Features are shifted to mean 0 and scaled to a mean squared length of 1, by one number, so that the same strengths of
the regulariser suit every tower. The strength is chosen on a part of the training examples, and the classifier is
then fitted to all of them; the test examples are looked at once.
Reference: CLIP, https://arxiv.org/abs/2103.00020, appendix A.3.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from pocketclip.errors import UserError
from pocketclip.stages.watch import SILENT, Watch

PENALTIES = tuple(10 ** (-number / 2) for number in range(1, 17))
"""Strengths that are tried, from strong to weak: 0.3 to 1e-8."""
PATIENCE = 4
"""Strengths in a row that are no better than the best so far, before the rest are left out."""
VALIDATION_SHARE = 0.2
MAX_ITERATIONS = 1000
CPU = torch.device("cpu")
ROWS_A_PASS = 1 << 16

Floats = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]


class Classifier(NamedTuple):
    """Weights and bias of a linear classifier."""

    weight: Float[Tensor, "C F"]
    bias: Float[Tensor, " C"]

    def __call__(self, features: Float[Tensor, "N F"]) -> Float[Tensor, "N C"]:
        """Logits of each class."""
        return features @ self.weight.T + self.bias


class Probe(NamedTuple):
    """How a linear probe did."""

    correct: npt.NDArray[np.bool_]
    """(N,), whether each test example got its class."""
    penalty: float
    """The chosen strength of the regulariser."""


def linear_probe(
    train: Floats,
    train_labels: Classes,
    test: Floats,
    test_labels: Classes,
    *,
    num_classes: int,
    candidates: Classes | None = None,
    seed: int = 0,
    device: torch.device = CPU,
    watch: Watch = SILENT,
    work: str = "probing",
) -> Probe:
    """Learn classes from (N, F) training features, which need not be normalised, and answer on (M, F) test features.

    Labels are numbers below `num_classes`, at least 2; each occurs among those of training. Only the `candidates` are
    answers, or all classes. `seed` is of the part that the regulariser is chosen on. `watch` is told of the fits done,
    as `work`.

    Raises:
        UserError: no class has two training examples, so that nothing can be chosen; or features are not finite.
    """
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise UserError("linear_probe: the model gives features that are not finite; its weights are damaged.")
    fitted, held = stratified_parts(train_labels, VALIDATION_SHARE, seed)
    if len(held) == 0:
        raise UserError("linear_probe: no class has two training examples to choose the regulariser with; bring more.")
    shift = train.mean(axis=0)
    scale = 1 / max(float(np.sqrt(np.square(train - shift, dtype=np.float64).sum(axis=1).mean())), 1e-12)

    def moved(features: Floats) -> Tensor:
        return torch.from_numpy(((features - shift) * scale).astype(np.float32)).to(device)

    def told(num_fits: int) -> None:
        watch.work(work, num_fits, len(PENALTIES) + 1)

    features, labels = moved(train), torch.from_numpy(train_labels).to(device)
    own, other = torch.from_numpy(fitted).to(device), torch.from_numpy(held).to(device)
    best = _choose((features[own], labels[own]), (features[other], labels[other]), num_classes, told)
    final = fit_classifier(features, labels, num_classes=num_classes, penalty=best.penalty, start=best.classifier)
    told(len(PENALTIES) + 1)
    allowed = np.arange(num_classes) if candidates is None else candidates
    columns = torch.from_numpy(allowed).to(device)
    answers = [allowed[final(rows)[:, columns].argmax(1).cpu().numpy()] for rows in moved(test).split(ROWS_A_PASS)]
    return Probe(np.concatenate(answers) == test_labels, best.penalty)


class _Tried(NamedTuple):
    """A strength of the regulariser; the most accurate is the best, and of equal ones that with the lowest loss."""

    accuracy: float
    likelihood: float
    penalty: float
    classifier: Classifier


def _choose(
    fitted: tuple[Tensor, Tensor], held: tuple[Tensor, Tensor], num_classes: int, told: Callable[[int], None]
) -> _Tried:
    """The best strength for features and labels that were held out, of those fitted to others."""
    tried: list[_Tried] = []
    start: Classifier | None = None
    for number, penalty in enumerate(PENALTIES):
        start = fit_classifier(*fitted, num_classes=num_classes, penalty=penalty, start=start)
        logits = start(held[0])
        accuracy = float((logits.argmax(1) == held[1]).float().mean())
        tried.append(_Tried(accuracy, -float(F.cross_entropy(logits, held[1])), penalty, start))
        told(number + 1)
        best = max(range(len(tried)), key=lambda number: tried[number][:2])
        if number - best == PATIENCE:
            break
    return tried[best]


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
