"""Ridge regression against scikit-learn, and its closed-form leave-one-out against leaving out one by one."""

import numpy as np
import numpy.typing as npt
import pytest

from pocketclip.evaluate.least_squares import PENALTIES, fit_ridge

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


def clusters(a_class: int, *, spread: float, num_classes: int = 4, width: int = 12) -> tuple[Floats, Ids]:
    random = np.random.default_rng(1)
    labels = np.repeat(np.arange(num_classes), a_class)
    centres = random.normal(size=(num_classes, width))
    return (centres[labels] + spread * random.normal(size=(len(labels), width)) + 3).astype(np.float32), labels


def by_hand(features: Floats, labels: Ids, shift: Floats, scale: float, penalty: float, num_classes: int) -> Floats:
    """Weights and bias on scaled features from the normal equations."""
    rows = np.concatenate([(features - shift) * scale, np.ones((len(labels), 1))], axis=1).astype(np.float64)
    targets = 2 * np.eye(num_classes)[labels] - 1
    strength = penalty * np.diag([1.0] * (rows.shape[1] - 1) + [0.0])
    return np.linalg.solve(rows.T @ rows + strength, rows.T @ targets).astype(np.float32)


@pytest.mark.parametrize(("a_class", "width"), [(6, 12), (3, 40)])
def test_the_penalty_is_that_of_leaving_out_each_in_turn(a_class: int, width: int) -> None:
    features, labels = clusters(a_class, spread=1.5, width=width)
    shift = features.mean(axis=0)
    scale = 1 / float(np.sqrt(np.square(features - shift).sum(axis=1).mean()))
    targets = 2 * np.eye(4)[labels] - 1
    errors = []
    for penalty in PENALTIES:
        residuals = []
        for out in range(len(labels)):
            rest = np.delete(np.arange(len(labels)), out)
            solved = by_hand(features[rest], labels[rest], shift, scale, penalty * len(labels), 4)
            residuals.append(targets[out] - np.append((features[out] - shift) * scale, 1.0) @ solved)
        errors.append(float(np.square(residuals).mean()))
    fitted = fit_ridge(features, labels, 4)
    assert fitted.penalty == PENALTIES[int(np.argmin(errors))]
    solved = by_hand(features, labels, shift, scale, fitted.penalty * len(labels), 4)
    scores = np.concatenate([(features - shift) * scale, np.ones((len(labels), 1))], axis=1) @ solved
    assert fitted(features) == pytest.approx(scores, abs=1e-3)


def test_one_example_a_class_leaves_nothing_to_choose() -> None:
    features, labels = clusters(1, spread=0.1)
    fitted = fit_ridge(features, labels, 4)
    assert fitted.penalty == PENALTIES[0]
    assert (fitted(features).argmax(axis=1) == labels).all()


def test_the_scale_and_the_origin_of_features_do_not_matter() -> None:
    features, labels = clusters(8, spread=1.5)
    one, other = fit_ridge(features, labels, 4), fit_ridge(100 * features + 7, labels, 4)
    assert one.penalty == other.penalty
    assert one(features) == pytest.approx(other(100 * features + 7), abs=2e-3)


def test_classes_that_lie_apart_are_all_found() -> None:
    features, labels = clusters(20, spread=0.05)
    fitted = fit_ridge(features[::2], labels[::2], 4)
    assert (fitted(features[1::2]).argmax(axis=1) == labels[1::2]).all()


def test_features_that_are_all_the_same_tell_nothing() -> None:
    fitted = fit_ridge(np.ones((8, 3), np.float32), np.repeat(np.arange(4), 2), 4)
    assert fitted(np.ones((2, 3), np.float32)) == pytest.approx(np.full((2, 4), -0.5))
