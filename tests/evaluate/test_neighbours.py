"""Votes of nearest neighbours against a loop over single images, with ties, and against scikit-learn without them."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from pocketclip.evaluate import neighbours
from pocketclip.evaluate.neighbours import neighbour_votes, unit_length, vote_ranks

RANDOM = np.random.default_rng(0)
Floats = npt.NDArray[np.float32]


def with_ties(count: int, width: int = 4) -> Floats:
    """Rows of small whole numbers, many of them the same but for their length."""
    return (RANDOM.integers(-1, 2, (count, width)) + np.eye(1, width) * 0.25).astype(np.float32)


def by_hand(train: Floats, labels: list[int], row: Floats, num_classes: int, k: int, temperature: float) -> list[float]:
    cosines = [float(row @ other / np.linalg.norm(row) / np.linalg.norm(other)) for other in train.astype(np.float64)]
    last = sorted(cosines, reverse=True)[k - 1]
    surely = [n for n, cosine in enumerate(cosines) if cosine > last + 1e-6]
    tied = [n for n, cosine in enumerate(cosines) if abs(cosine - last) <= 1e-6]
    votes = [0.0] * num_classes
    for number, place in [*((n, 1.0) for n in surely), *((n, (k - len(surely)) / len(tied)) for n in tied)]:
        votes[labels[number]] += place * math.exp(cosines[number] / temperature)
    return [vote / sum(votes) for vote in votes]


@pytest.mark.parametrize("k", [1, 3, 20, 60])
@pytest.mark.parametrize("block", [1, 1 << 20])
def test_votes_are_those_of_a_loop(k: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK_ELEMENTS", block)
    train, test, labels = with_ties(60), with_ties(25), RANDOM.integers(0, 5, 60)
    weighted, plain = neighbour_votes(train, labels, test, num_classes=5, k=k, temperature=0.07)
    for number, row in enumerate(test.astype(np.float64)):
        assert weighted[number] == pytest.approx(by_hand(train, labels.tolist(), row, 5, k, 0.07), abs=1e-5)
        assert plain[number] == pytest.approx(by_hand(train, labels.tolist(), row, 5, k, 1e9), abs=1e-6)


def test_the_order_of_the_training_images_changes_no_answer() -> None:
    train, test, labels = with_ties(60), with_ties(25), RANDOM.integers(0, 5, 60)
    right = RANDOM.integers(0, 5, 25)
    order = RANDOM.permutation(60)
    one, other = (
        neighbour_votes(train[own], labels[own], test, num_classes=5, k=7, temperature=0.07)
        for own in (np.arange(60), order)
    )
    for votes, same in zip(one, other, strict=True):
        assert votes == pytest.approx(same)
        assert (vote_ranks(votes, right)[0] == vote_ranks(same, right)[0]).all()


@pytest.mark.parametrize("k", [1, 7])
def test_a_plain_vote_is_scikit_learns_where_nothing_ties(k: int) -> None:
    module = pytest.importorskip("sklearn.neighbors", reason="scikit-learn is not installed")
    train, test = (RANDOM.normal(size=(count, 6)).astype(np.float32) for count in (80, 40))
    labels, right = RANDOM.integers(0, 2, 80), RANDOM.integers(0, 2, 40)  # two classes and odd k: no vote ties
    oracle = module.KNeighborsClassifier(k, metric="cosine").fit(train, labels).predict(test)
    _, plain = neighbour_votes(train, labels, test, num_classes=2, k=k, temperature=0.07)
    ranks, predicted = vote_ranks(plain, right)
    assert (predicted == oracle).all()
    assert ((ranks == 0) == (oracle == right)).all()


def test_a_tied_vote_counts_against_the_model() -> None:
    votes = np.array([[0.5, 0.5, 0.0], [0.4, 0.6, 0.0], [0.0, 0.0, 1.0]])
    ranks, predicted = vote_ranks(votes, np.array([0, 1, 0]))
    assert ranks.tolist() == [1, 0, 2]  # of no votes, the class without any is last
    assert predicted.tolist() == [1, 1, 2]


def test_a_model_that_gives_one_vector_votes_for_the_commonest_class() -> None:
    same = np.ones((6, 3), np.float32)
    weighted, plain = neighbour_votes(same, np.array([0, 0, 0, 1, 1, 2]), same, num_classes=3, k=2, temperature=0.07)
    assert weighted[0] == pytest.approx([1 / 2, 1 / 3, 1 / 6])
    assert plain[0] == pytest.approx(weighted[0])


def test_a_low_temperature_is_the_vote_of_the_nearest() -> None:
    train, test = (unit_length(RANDOM.normal(size=(count, 6)).astype(np.float32)) for count in (30, 9))
    labels = RANDOM.integers(0, 4, 30)
    weighted, _ = neighbour_votes(train, labels, test, num_classes=4, k=30, temperature=1e-6)
    assert (weighted.argmax(axis=1) == labels[(test @ train.T).argmax(axis=1)]).all()
