"""The linear probe against scikit-learn, on classes that can be told apart, and on classes that cannot."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional as F

from pocketclip.errors import UserError
from pocketclip.evaluate.logistic_regression import fit_classifier, stratified_parts
from pocketclip.evaluate.sweeps import PENALTIES, linear_probe

Floats = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]


def clusters(count: int, *, spread: float, num_classes: int = 4, width: int = 8) -> tuple[Floats, Classes]:
    """Points around one centre a class."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(num_classes, width))
    labels = random.integers(0, num_classes, count)
    return (centres[labels] + spread * random.normal(size=(count, width))).astype(np.float32), labels


@pytest.mark.parametrize("penalty", [1e-1, 1e-3])
def test_the_fit_is_that_of_scikit_learn(penalty: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    features, labels = clusters(100, spread=1.5)
    fitted = fit_classifier(torch.from_numpy(features), torch.from_numpy(labels), num_classes=4, penalty=penalty)
    oracle = linear_model.LogisticRegression(C=1 / (penalty * 100), tol=1e-8, max_iter=10_000).fit(features, labels)
    shares = fitted(torch.from_numpy(features)).softmax(1).numpy()
    assert shares == pytest.approx(oracle.predict_proba(features), abs=2e-3)
    assert fitted.weight.numpy() == pytest.approx(oracle.coef_, abs=1e-2)


def test_at_the_minimum_the_gradient_is_zero() -> None:
    features, labels = (torch.from_numpy(values) for values in clusters(60, spread=1.5))
    fitted = fit_classifier(features, labels, num_classes=4, penalty=1e-2)
    weight, bias = fitted.weight.clone().requires_grad_(), fitted.bias.clone().requires_grad_()
    loss = F.cross_entropy(features @ weight.T + bias, labels) + 0.5e-2 * weight.square().sum()
    loss.backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert float(weight.grad.abs().max()) < 1e-4
    assert float(bias.grad.abs().max()) < 1e-4


def test_classes_that_lie_apart_are_all_found() -> None:
    features, labels = clusters(80, spread=0.05)
    probe = linear_probe(features[:60], labels[:60], features[60:], labels[60:], num_classes=4)
    assert probe.correct.all()
    assert probe.chosen["penalty"] in PENALTIES


def test_random_classes_are_found_by_chance_only() -> None:
    features, _ = clusters(800, spread=1.0)
    labels = np.random.default_rng(1).integers(0, 4, 800)
    probe = linear_probe(features[:400], labels[:400], features[400:], labels[400:], num_classes=4)
    assert probe.correct.mean() == pytest.approx(0.25, abs=0.07)  # three standard errors


def test_the_scale_and_the_origin_of_features_do_not_matter() -> None:
    features, labels = clusters(120, spread=1.5)
    moved = 1000 * features + 50
    probes = [linear_probe(x[:80], labels[:80], x[80:], labels[80:], num_classes=4) for x in (features, moved)]
    assert probes[0].chosen == probes[1].chosen
    assert np.mean(probes[0].correct != probes[1].correct) <= 0.05


def test_a_share_of_every_class_is_held_out_and_one_example_never() -> None:
    labels = np.array([0] * 10 + [1] * 5 + [2] * 2 + [3])
    kept, held = stratified_parts(labels, 0.2, seed=0)
    assert np.bincount(labels[held], minlength=4).tolist() == [2, 1, 1, 0]
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert stratified_parts(labels, 0.2, seed=1)[1].tolist() != held.tolist()


def test_single_examples_leave_nothing_to_choose_with() -> None:
    features, labels = np.eye(3, dtype=np.float32), np.arange(3)
    with pytest.raises(UserError, match="no class has two training examples"):
        linear_probe(features, labels, features, labels, num_classes=3)


def test_features_that_are_not_finite_are_an_error() -> None:
    features, labels = clusters(8, spread=1.0)
    features[0, 0] = np.nan
    with pytest.raises(UserError, match="not finite"):
        linear_probe(features, labels, features, labels, num_classes=4)
