"""How a linear probe is chosen: our sweep, or the published ones of CLIP and of "Scaling (down) CLIP".

Features are shifted to mean 0 and scaled to a mean squared length of 1, by one number, so that the same settings suit
every tower. A setting is chosen on a part of the training examples, and the classifier is then fitted to all of them;
the test examples are looked at once.
References: CLIP, https://arxiv.org/abs/2103.00020, appendix A.3; Scaling (down) CLIP,
https://arxiv.org/abs/2404.08197.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from pocketclip.errors import UserError
from pocketclip.evaluate.logistic_regression import Classifier, fit_by_steps, fit_classifier, stratified_parts
from pocketclip.evaluate.tower import Sweep
from pocketclip.stages.watch import SILENT, Watch

PENALTIES = tuple(10 ** (-number / 2) for number in range(1, 17))
"""Strengths that ours tries, from strong to weak: 0.3 to 1e-8."""
PATIENCE = 4
"""Strengths in a row that are no better than the best so far, before the rest are left out."""
STEPS_PER_DECADE = 8
"""Of CLIP's lambda from 1e-6 to 1e6, so 96 steps."""
DECADES = 6
LEARNING_RATES = tuple(10 ** (number / 2) for number in range(-4, 5))
""" "Scaling (down) CLIP" sweeps the rate and does not say over which: here 0.01 to 100."""
VALIDATION_SHARE = 0.2
CPU = torch.device("cpu")
ROWS_A_PASS = 1 << 16

Floats = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]
Examples = tuple[Tensor, Tensor]
"""Features and labels."""
Told = Callable[[int, int], None]
"""Of fits done, and fits in all."""


class Probe(NamedTuple):
    """How a linear probe did."""

    correct: npt.NDArray[np.bool_]
    """(N,), whether each test example got its class."""
    chosen: dict[str, float]
    """The setting that the sweep chose, by its name: `penalty`, `lambda` or `learning_rate`."""
    weight: Floats
    """(C, F), of features as they were given."""
    bias: Floats
    """(C,)."""


class Given(NamedTuple):
    """What a sweep learns from."""

    fitted: Examples
    held: Examples
    whole: Examples
    """Both of them."""
    num_classes: int
    scale: float
    """What features were multiplied with."""
    seed: int


class _Tried(NamedTuple):
    """A setting; the most accurate is the best, and of equal ones that with the lowest loss."""

    accuracy: float
    likelihood: float
    setting: float
    classifier: Classifier

    @classmethod
    def on(cls, held: Examples, setting: float, classifier: Classifier) -> "_Tried":
        """How a classifier does on examples that it was not fitted to."""
        logits = classifier(held[0])
        accuracy = float((logits.argmax(1) == held[1]).float().mean())
        return cls(accuracy, -float(F.cross_entropy(logits, held[1])), setting, classifier)


def linear_probe(
    train: Floats,
    train_labels: Classes,
    test: Floats,
    test_labels: Classes,
    *,
    num_classes: int,
    candidates: Classes | None = None,
    sweep: Sweep = "ours",
    seed: int = 0,
    device: torch.device = CPU,
    watch: Watch = SILENT,
    work: str = "probing",
) -> Probe:
    """Learn classes from (N, F) training features, which need not be normalised, and answer on (M, F) test features.

    Labels are numbers below `num_classes`, at least 2; each occurs among those of training. Only the `candidates` are
    answers, or all classes. `seed` is of the part that the setting is chosen on. `watch` is told of the fits done, as
    `work`.

    Raises:
        UserError: no class has two training examples, so that nothing can be chosen; or features are not finite.
    """
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise UserError("linear_probe: the model gives features that are not finite; its weights are damaged.")
    fitted, held = stratified_parts(train_labels, VALIDATION_SHARE, seed)
    if len(held) == 0:
        raise UserError("linear_probe: no class has two training examples to choose the regulariser with; bring more.")
    shift = train.mean(axis=0)
    passes = (train[start : start + ROWS_A_PASS] for start in range(0, len(train), ROWS_A_PASS))
    lengths = np.concatenate([np.square(rows - shift, dtype=np.float64).sum(axis=1) for rows in passes])
    scale = 1 / max(float(np.sqrt(lengths.mean())), 1e-12)

    def moved(features: Floats) -> Tensor:
        return torch.from_numpy(((features - shift) * scale).astype(np.float32)).to(device)

    features, labels = moved(train), torch.from_numpy(train_labels).to(device)
    own, other = torch.from_numpy(fitted).to(device), torch.from_numpy(held).to(device)
    parts = (features[own], labels[own]), (features[other], labels[other]), (features, labels)
    name, setting, final = SWEEPS[sweep](
        Given(*parts, num_classes, scale, seed), lambda done, total: watch.work(work, done, total)
    )
    allowed = np.arange(num_classes) if candidates is None else candidates
    columns = torch.from_numpy(allowed).to(device)
    answers = [allowed[final(rows)[:, columns].argmax(1).cpu().numpy()] for rows in moved(test).split(ROWS_A_PASS)]
    weight = final.weight.double().cpu().numpy() * scale
    bias = final.bias.double().cpu().numpy() - weight @ shift.astype(np.float64)
    correct = np.concatenate(answers) == test_labels
    return Probe(correct, {name: setting}, weight.astype(np.float32), bias.astype(np.float32))


def _sweep_ours(given: Given, told: Told) -> tuple[str, float, Classifier]:
    """Ever weaker penalties, until four in a row are no better."""
    tried: list[_Tried] = []
    start: Classifier | None = None
    for number, penalty in enumerate(PENALTIES):
        start = fit_classifier(*given.fitted, num_classes=given.num_classes, penalty=penalty, start=start)
        tried.append(_Tried.on(given.held, penalty, start))
        told(number + 1, len(PENALTIES) + 1)
        best = max(range(len(tried)), key=lambda number: tried[number][:2])
        if number - best == PATIENCE:
            break
    found = tried[best]
    final = fit_classifier(*given.whole, num_classes=given.num_classes, penalty=found.setting, start=found.classifier)
    told(len(PENALTIES) + 1, len(PENALTIES) + 1)
    return "penalty", found.setting, final


def clip_search(score: Callable[[int], tuple[float, ...]]) -> int:
    """The exponent, in eighths of a decade, that CLIP's parametric binary search ends at.

    It starts with 1e-6, 1e-4 ... 1e6 and halves the interval around the peak down to eight steps a decade.
    """
    known: dict[int, tuple[float, ...]] = {}
    end, step = DECADES * STEPS_PER_DECADE, 2 * STEPS_PER_DECADE
    asked: Iterable[int] = range(end, -end - 1, -step)  # from strong to weak
    while True:
        known |= {number: score(number) for number in asked if abs(number) <= end and number not in known}
        peak = max(known, key=known.__getitem__)
        if step == 1:
            return peak
        step //= 2
        asked = (peak + step, peak - step)


def _sweep_clip(given: Given, told: Told) -> tuple[str, float, Classifier]:
    """CLIP's lambda times half the squared norm, beside the sum of the losses on features as they were given.

    In features that were scaled by s the same minimum has lambda s^2, as weights are smaller by s.
    """
    tried: dict[int, _Tried] = {}
    total = DECADES + 1 + 2 * 4 + 1  # seven in the beginning, two at each of four halvings, and the last

    def fit(number: int, examples: Examples) -> Classifier:
        strength = 10 ** (number / STEPS_PER_DECADE)
        near = min(tried, key=lambda other: abs(other - number), default=None)
        return fit_classifier(
            *examples,
            num_classes=given.num_classes,
            penalty=strength * given.scale**2 / len(examples[1]),
            start=None if near is None else tried[near].classifier,
        )

    def score(number: int) -> tuple[float, ...]:
        tried[number] = _Tried.on(given.held, 10 ** (number / STEPS_PER_DECADE), fit(number, given.fitted))
        told(len(tried), total)
        return tried[number][:2]

    best = clip_search(score)
    final = fit(best, given.whole)
    told(total, total)
    return "lambda", tried[best].setting, final


def _sweep_scaling_down(given: Given, told: Told) -> tuple[str, float, Classifier]:
    """A layer of zeros, trained by gradient descent without a penalty, at several learning rates."""

    def fit(examples: Examples, rates: Sequence[float]) -> list[Classifier]:
        return fit_by_steps(*examples, num_classes=given.num_classes, learning_rates=rates, seed=given.seed)

    classifiers = fit(given.fitted, LEARNING_RATES)
    told(1, 2)
    tried = [_Tried.on(given.held, rate, own) for rate, own in zip(LEARNING_RATES, classifiers, strict=True)]
    best = max(tried, key=lambda own: own[:2])
    (final,) = fit(given.whole, [best.setting])
    told(2, 2)
    return "learning_rate", best.setting, final


SWEEPS: dict[Sweep, Callable[[Given, Told], tuple[str, float, Classifier]]] = {
    "ours": _sweep_ours,
    "clip": _sweep_clip,
    "scaling_down": _sweep_scaling_down,
}
