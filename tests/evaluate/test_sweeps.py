"""The sweeps of a linear probe: what they choose, against brute force and scikit-learn."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from conftest import QuietWatch
from pocketclip.evaluate.logistic_regression import BATCH_SIZE, MIN_STEPS, MOMENTUM, fit_by_steps, stratified_parts
from pocketclip.evaluate.sweeps import (
    DECADES,
    LEARNING_RATES,
    STEPS_PER_DECADE,
    VALIDATION_SHARE,
    clip_search,
    linear_probe,
)
from pocketclip.evaluate.tower import Sweep

Floats = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]
END = DECADES * STEPS_PER_DECADE


def clusters(count: int, *, spread: float, num_classes: int = 4, width: int = 8) -> tuple[Floats, Classes]:
    """Points around one centre a class, far from the origin and not of unit length."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(num_classes, width))
    labels = random.integers(0, num_classes, count)
    points = centres[labels] + spread * random.normal(size=(count, width))
    return (3 * points + 5).astype(np.float32), labels


@pytest.mark.parametrize("peak", [-END, -41, -7, 0, 1, 20, 33, END])
def test_the_binary_search_finds_a_single_peak_with_fifteen_fits(peak: int) -> None:
    asked: list[int] = []

    def score(number: int) -> tuple[float, ...]:
        asked.append(number)
        return (-abs(number - peak),)

    assert clip_search(score) == peak
    assert sorted(asked[:7]) == list(range(-END, END + 1, 2 * STEPS_PER_DECADE))  # 1e-6, 1e-4 ... 1e6
    assert len(asked) == len(set(asked)) <= 7 + 2 * 4
    assert max(map(abs, asked)) <= END


def test_the_sweep_of_clip_is_that_of_scikit_learn_on_features_as_they_are() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    features, labels = clusters(300, spread=1.5)
    train, train_labels, test, test_labels = features[:200], labels[:200], features[200:], labels[200:]
    probe = linear_probe(train, train_labels, test, test_labels, num_classes=4, sweep="clip")
    fitted, held = stratified_parts(train_labels, VALIDATION_SHARE, 0)

    def oracle(strength: float, rows: Classes) -> object:
        model = linear_model.LogisticRegression(C=1 / strength, tol=1e-9, max_iter=20_000)
        return model.fit(train[rows], train_labels[rows])

    def score(number: int) -> tuple[float, ...]:
        model = oracle(10 ** (number / STEPS_PER_DECADE), fitted)
        shares = model.predict_proba(train[held])  # type: ignore[attr-defined]
        likelihood = float(np.log(shares[np.arange(len(held)), train_labels[held]]).mean())
        return float((shares.argmax(1) == train_labels[held]).mean()), likelihood

    strength = 10 ** (clip_search(score) / STEPS_PER_DECADE)
    assert probe.chosen == pytest.approx({"lambda": strength})
    final = oracle(strength, np.arange(200))
    assert np.array_equal(probe.correct, final.predict(test) == test_labels)  # type: ignore[attr-defined]
    logits = test @ probe.weight.T + probe.bias
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = final.predict_proba(test)  # type: ignore[attr-defined]
    assert shares / shares.sum(axis=1, keepdims=True) == pytest.approx(expected, abs=5e-3)
    assert probe.weight == pytest.approx(final.coef_, abs=1e-2)  # type: ignore[attr-defined]


def test_gradient_descent_from_zeros_ends_where_scikit_learn_without_a_penalty_does() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    features, labels = clusters(400, spread=3.0)
    features = (features - features.mean(axis=0)) / 10
    oracle = linear_model.LogisticRegression(C=np.inf, tol=1e-9, max_iter=20_000).fit(features, labels)
    rows = torch.from_numpy(features), torch.from_numpy(labels)
    _, fitted = fit_by_steps(*rows, num_classes=4, learning_rates=[1e-3, 3.0])
    assert fitted(rows[0]).softmax(1).numpy() == pytest.approx(oracle.predict_proba(features), abs=1e-2)


def test_the_layer_begins_with_zeros_and_each_rate_is_fitted_apart() -> None:
    features, labels = (torch.from_numpy(part) for part in clusters(1200, spread=1.0))
    still, slow = fit_by_steps(features, labels, num_classes=4, learning_rates=[1e-12, 1e-3])
    assert max(float(still.weight.abs().max()), float(still.bias.abs().max())) < 1e-6
    (alone,) = fit_by_steps(features, labels, num_classes=4, learning_rates=[1e-3])
    torch.testing.assert_close(alone.weight, slow.weight, atol=1e-4, rtol=1e-3)
    assert float(torch.nn.functional.cross_entropy(slow(features), labels)) < 0.9 * np.log(4)


def test_its_steps_are_those_of_torchs_sgd() -> None:
    features, labels = (torch.from_numpy(part) for part in clusters(700, spread=1.0))
    (found,) = fit_by_steps(features, labels, num_classes=4, learning_rates=[1e-2], seed=1)
    layer = torch.nn.Linear(8, 4)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-2, momentum=MOMENTUM)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, MIN_STEPS)
    random = torch.Generator().manual_seed(1)
    for _ in range(MIN_STEPS // 2):
        for rows in torch.randperm(700, generator=random).split(BATCH_SIZE):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(layer(features[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    torch.testing.assert_close(found.weight, layer.weight.detach(), atol=1e-3, rtol=1e-2)
    torch.testing.assert_close(found.bias, layer.bias.detach(), atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("sweep", ["ours", "clip", "scaling_down"])
def test_every_sweep_tells_classes_apart_and_says_what_it_chose(sweep: Sweep) -> None:
    features, labels = clusters(160, spread=0.3)
    watch = QuietWatch()
    probe = linear_probe(
        features[:120], labels[:120], features[120:], labels[120:], num_classes=4, sweep=sweep, watch=watch
    )
    assert probe.correct.mean() > 0.95
    ((name, value),) = probe.chosen.items()
    assert name == {"ours": "penalty", "clip": "lambda", "scaling_down": "learning_rate"}[sweep]
    assert value in LEARNING_RATES or sweep != "scaling_down"
    answers = (features[120:] @ probe.weight.T + probe.bias).argmax(axis=1)
    assert np.array_equal(answers == labels[120:], probe.correct)


@pytest.mark.parametrize("sweep", ["ours", "clip", "scaling_down"])
def test_a_seed_gives_the_same_probe_again(sweep: Sweep) -> None:
    features, labels = clusters(160, spread=2.0)
    given = features[:120], labels[:120], features[120:], labels[120:]
    first, again = (linear_probe(*given, num_classes=4, sweep=sweep, seed=3) for _ in range(2))
    assert np.array_equal(first.weight, again.weight)
    assert first.chosen == again.chosen
