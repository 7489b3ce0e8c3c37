"""Ranks by corrected scores against counting by hand, and their scores beside the plain ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data import open_source
from pocketclip.evaluate import ranks as ranks_module
from pocketclip.evaluate.comparison import compare
from pocketclip.evaluate.items import items_of, read_items, write_items
from pocketclip.evaluate.ranks import TIE, fold_ranks, retrieval_ranks
from pocketclip.evaluate.recalls import CORRECTED, GAIN, point_metrics, retrieval_metrics
from pocketclip.evaluate.statistics import ratios, resampled_ratios
from pocketclip.evaluate.task import measure
from pocketclip.evaluate.tasks import Retrieval, TaskData
from pocketclip.evaluate.tasks import folds as folds_module
from pocketclip.evaluate.tasks.folds import Folds
from pocketclip.features.encode import Embeddings, embed_source
from pocketclip.hubs import Hubs, LogSumExp
from pocketclip.records import Interval

Array = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


def unit_rows(count: int, width: int, seed: int) -> Array:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def pairs(seed: int, *, tied: bool, num_images: int = 30) -> tuple[Array, Array, Ids, tuple[Array, Array]]:
    """Images, texts, the image of each, and what is taken of both; where `tied` most corrected scores are equal."""
    random = np.random.default_rng(seed)
    owners = random.permutation(np.repeat(np.arange(num_images), random.integers(1, 6, num_images)))
    sizes = num_images, len(owners)
    if tied:
        images, texts = (random.choice(np.array([-0.5, 0.5], np.float32), (size, 4)) for size in sizes)
        taken = tuple(random.choice(np.array([0, 0.25, 0.5], np.float32), size) for size in sizes)
    else:
        images, texts = unit_rows(num_images, 8, seed), unit_rows(len(owners), 8, seed + 1)
        taken = tuple(random.normal(0, 0.3, size).astype(np.float32) for size in sizes)
    return images, texts, owners, (taken[0], taken[1])


def by_hand(
    images: Array, texts: Array, owners: Ids, taken: tuple[Array, Array], names: Ids
) -> tuple[list[int], list[int]]:
    """Ranks by asking of every rival whether its corrected score is at least as high."""
    cosines = images.astype(np.float64) @ texts.astype(np.float64).T
    right = np.array([[name in names[owners == image] for name in names] for image in range(len(images))])
    of_texts, of_images = cosines - taken[0][:, None], cosines - taken[1]
    text_ranks = [
        int((of_texts[~right[:, q], q] >= of_texts[right[:, q], q].max() - TIE).sum()) for q in range(len(texts))
    ]
    image_ranks = [
        int((of_images[i, ~right[i]] >= of_images[i, right[i]].max() - TIE).sum()) for i in range(len(images))
    ]
    return text_ranks, image_ranks


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("elements", [100, 1 << 24])
@pytest.mark.parametrize("same", [True, False])
def test_corrected_ranks_equal_counting_by_hand(
    seed: int, tied: bool, elements: int, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks_module, "_BLOCK_ELEMENTS", elements)
    images, texts, owners, taken = pairs(seed, tied=tied)
    names = np.arange(len(texts))
    if same:  # a text of several images is one text, of which one number is taken
        names = np.random.default_rng(seed).integers(0, 20, len(texts))
        texts, taken = texts[names], (taken[0], taken[1][names])
    ranks = retrieval_ranks(images, texts, owners, names if same else None, taken)
    text_ranks, image_ranks = by_hand(images, texts, owners, taken, names)
    assert ranks.text_to_image.tolist() == text_ranks
    assert ranks.image_to_text.tolist() == image_ranks


def test_taking_one_number_of_all_changes_no_rank() -> None:
    images, texts, owners, _ = pairs(0, tied=False)
    plain = retrieval_ranks(images, texts, owners)
    taken = np.full(len(images), 0.25, np.float32), np.full(len(texts), -0.5, np.float32)
    shifted = retrieval_ranks(images, texts, owners, None, taken)
    assert np.array_equal(shifted.text_to_image, plain.text_to_image)
    assert np.array_equal(shifted.image_to_text, plain.image_to_text)


def test_each_direction_is_corrected_by_what_it_finds() -> None:
    images, texts, owners, taken = pairs(1, tied=False)
    plain = retrieval_ranks(images, texts, owners)
    nothing = np.zeros(len(images), np.float32), np.zeros(len(texts), np.float32)
    of_images = retrieval_ranks(images, texts, owners, None, (taken[0], nothing[1]))
    assert np.array_equal(of_images.image_to_text, plain.image_to_text)
    assert not np.array_equal(of_images.text_to_image, plain.text_to_image)


def test_folds_take_their_own_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks_module, "FOLD", 10)
    images, texts, owners, taken = pairs(2, tied=False)
    found = fold_ranks(images, texts, owners, np.arange(30), None, taken)
    for fold, ranks in enumerate(found):
        rows = slice(10 * fold, 10 * fold + 10)
        own = owners // 10 == fold
        expected = retrieval_ranks(
            images[rows], texts[own], owners[own] - 10 * fold, None, (taken[0][rows], taken[1][own])
        )
        assert np.array_equal(ranks.text_to_image, expected.text_to_image)
        assert np.array_equal(ranks.image_to_text, expected.image_to_text)


def hubs(width: int = 8, pictures: Ids | None = None) -> Hubs:
    rows = unit_rows(20, width, 7).astype(np.float16), unit_rows(9, width, 8).astype(np.float16)
    return Hubs(LogSumExp(), *rows, np.zeros(0, np.int64) if pictures is None else pictures, "folder:photos")


def embeddings(seed: int = 3, num_images: int = 30) -> Embeddings:
    images, texts, owners, _ = pairs(seed, tied=False, num_images=num_images)
    return Embeddings(images, texts, owners, np.arange(num_images), [])


@pytest.fixture
def source(make_folder: Callable[..., Path]):
    return open_source(f"folder:{make_folder(8)}", place="x")


@pytest.mark.parametrize("task", [Retrieval(), Folds()], ids=["retrieval", "folds"])
def test_corrected_scores_stand_beside_the_plain_ones(task, source, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (folds_module, ranks_module):
        monkeypatch.setattr(module, "FOLD", 10)
    plain = task.result(embeddings(), source)
    both = task.result(replace(embeddings(), hubs=hubs()), source)
    assert not any(name.startswith(CORRECTED) for name in plain.metrics)
    assert {name: both.metrics[name] for name in plain.metrics} == plain.metrics  # bit for bit
    assert set(both.metrics) == set(plain.metrics) | {f"{CORRECTED}{name}" for name in plain.metrics} | {GAIN}
    for name, value in plain.metrics.items():
        assert isinstance(value, Interval) == isinstance(both.metrics[f"{CORRECTED}{name}"], Interval)
    rows = task.rows(both)
    assert rows[:2] == task.rows(plain)
    assert [row[0] for row in rows[2:]] == ["text → image, corrected", "image → text, corrected"]
    assert any(line.startswith("with hubs corrected ") for line in task.remarks(both))
    assert any("over 20 captions and 9 pictures of folder:photos" in note for note in both.notes)
    points = task.points(replace(embeddings(), hubs=hubs()), source)
    assert points["corrected_mean_recall"] == pytest.approx(both.metrics["corrected_mean_recall"].value)  # type: ignore[union-attr]
    assert {name: points[name] for name in task.points(embeddings(), source)} == task.points(embeddings(), source)


def test_scores_are_those_of_the_ranks_by_hand(source) -> None:
    own, bank = embeddings(), hubs()
    taken = bank.of_images(own.images), bank.of_texts(own.texts)
    text_ranks, image_ranks = by_hand(own.images, own.texts, own.text_images, taken, np.arange(len(own.texts)))
    points = Retrieval().points(replace(own, hubs=bank), source)
    for k in (1, 5, 10):
        assert points[f"corrected_text_to_image_recall@{k}"] == pytest.approx(np.mean(np.array(text_ranks) < k))
        assert points[f"corrected_image_to_text_recall@{k}"] == pytest.approx(np.mean(np.array(image_ranks) < k))


def test_the_gain_is_of_the_same_draws() -> None:
    images, texts, owners, taken = pairs(5, tied=False, num_images=60)
    plain, corrected = retrieval_ranks(images, texts, owners), retrieval_ranks(images, texts, owners, None, taken)
    metrics = retrieval_metrics(plain, corrected=[corrected])
    before, after, gain = (metrics[name] for name in ("mean_recall", "corrected_mean_recall", GAIN))
    assert isinstance(before, Interval)
    assert isinstance(after, Interval)
    assert isinstance(gain, Interval)
    assert gain.value == pytest.approx(after.value - before.value)
    assert gain.low <= gain.value <= gain.high
    same = retrieval_metrics(plain, corrected=[plain])[GAIN]
    assert same == Interval(value=0, low=0, high=0)


def test_kept_items_give_the_corrected_scores_again(source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (folds_module, ranks_module):
        monkeypatch.setattr(module, "FOLD", 10)
    for task in (Retrieval(), Folds()):
        own = replace(embeddings(), hubs=hubs())
        result = task.result(own, source).model_copy(update={"model": "a"})
        answers, ids = task.answers(own, source), np.arange(30)
        file = write_items(tmp_path / "a.npz", items_of(result, (answers, ids)))
        items = read_items(file)
        scores = ratios(items.units, task.means)
        assert scores == {name: pytest.approx(result.metrics[name].value) for name in scores}  # type: ignore[union-attr]
        assert {"corrected_mean_recall", "corrected_text_to_image_mean_average_precision"} <= set(scores)
        assert set(resampled_ratios(items.units, task.means, asked=["corrected_mean_recall"])) >= {
            "corrected_mean_recall"
        }
        bare = items_of(result, (task.answers(embeddings(), source), ids))
        assert set(compare([items], [bare]).metrics) == set(task.points(embeddings(), source)) - {
            f"{way}_{rank}_rank" for way in ("text_to_image", "image_to_text") for rank in ("mean", "median")
        }
        assert "corrected_mean_recall" in compare([items], [items]).metrics


def test_a_model_with_a_bank_is_measured_with_it(tiny_pretrained: PretrainedModel, source) -> None:
    plain = measure(Retrieval(), tiny_pretrained, TaskData(source))
    ids = np.sort(embed_source(tiny_pretrained, source).pictures[:3])  # type: ignore[index]
    tiny_pretrained.hubs = hubs(16, ids)
    both = measure(Retrieval(), tiny_pretrained, TaskData(source, keeps_items=True))
    assert {name: both.metrics[name] for name in plain.metrics} == plain.metrics
    assert "corrected_text_to_image_recall@1" in both.metrics
    assert "3 of 8 pictures are in that bank: corrected scores flatter" in both.notes


def test_points_of_no_bank_are_as_they_were(source) -> None:
    own = embeddings()
    expected = point_metrics(retrieval_ranks(own.images, own.texts, own.text_images))
    points = Retrieval().points(own, source)
    assert list(points) == [*expected, "mean_recall"]
