"""Ranks, accuracies and class tables against plain loops, open_clip and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score

from pocketclip.data.labels import NO_LABEL
from pocketclip.evaluate.classification import accuracies, class_scores, classify, macro_f1
from pocketclip.evaluate.out_of_distribution import Order, area_of_unknown, largest_probability
from pocketclip.evaluate.ranked import TIE
from pocketclip.evaluate.statistics import bootstrap_mean_of_classes, bootstrap_ratio, mean_of_classes


def grid(random: np.random.Generator, count: int, width: int = 4) -> np.ndarray:
    """Unit vectors on a coarse grid, so that many cosines are equal."""
    rows = random.integers(-1, 2, (count, width)).astype(np.float32)
    rows[(rows == 0).all(axis=1), 0] = 1
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def ranks_by_loop(images: np.ndarray, classes: np.ndarray, right: list[list[int]], names: list[str]) -> list[int]:
    ranks = []
    for image, own in zip(images, right, strict=True):
        scores = [float(np.dot(image.astype(np.float64), row.astype(np.float64))) for row in classes]
        best = max(scores[number] for number in own)
        rank = 0
        for number, score in enumerate(scores):
            namesake = any(names[number] == names[one] and number > one for one in own)
            if number not in own and not namesake and score >= best - TIE:
                rank += 1
        ranks.append(rank)
    return ranks


@pytest.mark.parametrize("seed", range(8))
def test_ranks_equal_a_plain_loop_with_ties_several_right_answers_and_classes_of_one_name(seed: int) -> None:
    random = np.random.default_rng(seed)
    images, classes = grid(random, 60), grid(random, 9)
    names = ["a", "b", "c", "a", "d", "e", "f", "a", "g"]
    classes[[3, 7]] = classes[0]  # one name, one embedding
    right = [random.choice(9, random.integers(1, 4), replace=False).tolist() for _ in images]
    padded = np.array([[*own, *[NO_LABEL] * (3 - len(own))] for own in right])
    answers = classify(images, classes, padded, names)
    assert answers.ranks.tolist() == ranks_by_loop(images, classes, right, names)
    for rank, predicted, own in zip(answers.ranks, answers.predicted, right, strict=True):
        assert (predicted in own) == (rank == 0)


def test_blocks_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    images, classes, right = grid(random, 50), grid(random, 7), random.integers(0, 7, 50)
    whole = classify(images, classes, right)
    monkeypatch.setattr("pocketclip.evaluate.classification._BLOCK_ELEMENTS", 20)
    parts = classify(images, classes, right)
    assert np.array_equal(whole.ranks, parts.ranks)
    assert np.array_equal(whole.predicted, parts.predicted)


def test_a_model_that_gives_every_input_the_same_vector_is_never_right() -> None:
    same = np.ones((12, 4), np.float32) / 2
    answers = classify(same, same[:3], np.arange(12) % 3)
    assert answers.ranks.tolist() == [2] * 12


def test_of_two_classes_of_one_name_the_first_is_right_and_the_second_never() -> None:
    classes = np.eye(3, dtype=np.float32)[[0, 1, 0]]
    answers = classify(classes, classes, np.arange(3), ["missile", "tench", "missile"])
    assert answers.ranks.tolist() == [0, 0, 1]
    assert answers.predicted.tolist() == [0, 1, 0]


@pytest.mark.parametrize("seed", range(4))
def test_accuracies_equal_those_of_scikit_learn_and_of_topk_where_nothing_ties(seed: int) -> None:
    import torch

    random = np.random.default_rng(seed)
    images, classes = (random.standard_normal((size, 16)).astype(np.float32) for size in (200, 12))
    images, classes = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images, classes))
    labels = random.choice([0, 1, 2, 5, 7, 11], 200)  # the others are in no image
    answers = classify(images, classes, labels)
    metrics = accuracies(answers.ranks, labels, 12)
    assert metrics["mean_class_accuracy"].value == pytest.approx(balanced_accuracy_score(labels, answers.predicted))
    top = torch.from_numpy(100 * images @ classes.T).topk(5, 1, True, True)[1].numpy()  # as CLIP_benchmark does
    found = top == labels[:, None]
    assert metrics["top1_accuracy"].value == pytest.approx(found[:, 0].mean())
    assert metrics["top5_accuracy"].value == pytest.approx(found.any(axis=1).mean())
    for interval in metrics.values():
        assert interval.low <= interval.value <= interval.high


def test_top5_says_nothing_among_five_classes_and_is_left_out() -> None:
    ranks = np.array([0, 4, 2])
    assert list(accuracies(ranks, None, 5)) == ["top1_accuracy"]
    assert list(accuracies(ranks, None, 6)) == ["top1_accuracy", "top5_accuracy"]


def test_the_mean_of_classes_of_equal_size_is_the_mean_of_images() -> None:
    hits, classes = np.array([1.0, 0, 1, 1]), np.array([0, 0, 3, 3])
    assert mean_of_classes(hits, classes) == 0.75
    alone = bootstrap_mean_of_classes(hits, np.zeros(4, np.int64))
    assert alone == bootstrap_ratio(hits, np.ones(4))  # the same draws


def test_the_table_of_classes_holds_answers_and_classes_that_no_image_is_of() -> None:
    table = class_scores(np.array([0, 0, 0, 2]), np.array([0, 1, 1, NO_LABEL]), ["a", "b", "c"])
    assert [own.top1_accuracy for own in table] == [pytest.approx(1 / 3), None, 0.0]
    assert [own.num_images for own in table] == [3, 0, 1]
    assert [own.answers for own in table] == [[(1, 2), (0, 1)], [], []]


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_equals_that_of_scikit_learn_with_ties(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores, found = random.integers(0, 6, 80).astype(np.float32), random.random(80) < 0.3
    times = random.integers(0, 3, 80).astype(np.float64)
    order = Order(scores, found)
    assert order.average_precision(np.ones(80)) == pytest.approx(average_precision_score(found, scores))
    expected = average_precision_score(found, scores, sample_weight=times)
    assert order.average_precision(times) == pytest.approx(expected)


def test_images_of_no_class_are_told_by_the_largest_probability() -> None:
    classes = np.eye(4, dtype=np.float32)
    known, unknown = np.repeat(classes, 3, axis=0), np.full((4, 4), 0.5, np.float32)
    assert largest_probability(20.0, unknown, classes) == pytest.approx([0.25] * 4)
    assert area_of_unknown(unknown, known, classes, 20.0).value == 1.0
    assert area_of_unknown(known, unknown, classes, 20.0).value == 12 / 16  # all behind


@pytest.mark.parametrize("seed", range(8))
def test_macro_f1_equals_scikit_learns_over_the_classes_that_occur(seed: int) -> None:
    random = np.random.default_rng(seed)
    images, classes = grid(random, 70), grid(random, 9)
    right = random.choice([0, 1, 2, 4, 7], 70)  # four classes are answers only
    right[0] = 8  # a class of one
    answered = classify(images, classes, right).predicted
    answered[answered == 3] = NO_LABEL  # a name that stands for none of the data's classes
    found = macro_f1(right, answered)
    wanted = f1_score(right, answered, average="macro", labels=np.unique(right), zero_division=0)
    assert found.value == pytest.approx(wanted)
    draws, slow = np.random.default_rng(0), []
    for _ in range(1000):
        drawn = draws.integers(0, 70, 70)
        there = np.unique(right[drawn])
        shares = []
        for one in there.tolist():
            common = int(((right[drawn] == one) & (answered[drawn] == one)).sum())
            shares.append(2 * common / int((right[drawn] == one).sum() + (answered[drawn] == one).sum()))
        slow.append(np.mean(shares))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])))


def test_macro_f1_of_one_image_is_whether_it_is_right() -> None:
    for answer, value in ((2, 1.0), (1, 0.0), (NO_LABEL, 0.0)):
        found = macro_f1(np.array([2]), np.array([answer]))
        assert (found.value, found.low, found.high) == (value, value, value)
