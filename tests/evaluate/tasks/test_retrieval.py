"""Retrieval ranks and recalls against counting by hand."""

import numpy as np
import numpy.typing as npt
import pytest

from pocketclip.errors import UserError
from pocketclip.evaluate import ranks
from pocketclip.evaluate.ranks import TIE, Ranks, retrieval_ranks
from pocketclip.evaluate.tasks import Retrieval
from pocketclip.evaluate.tasks.retrieval import mean_recall, point_metrics, retrieval_metrics
from pocketclip.records import EvalResult, Interval

Array = npt.NDArray[np.float32]


def unit_rows(count: int, width: int, seed: int) -> Array:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def quantised_rows(count: int, seed: int) -> Array:
    """Unit vectors of +-0.5 in 4 dimensions: 16 different ones, so that most scores are exact ties."""
    return np.random.default_rng(seed).choice(np.array([-0.5, 0.5], np.float32), (count, 4))


def owners_of(counts: list[int], seed: int = 0) -> npt.NDArray[np.int64]:
    """The image of each caption, in mixed order."""
    owners = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(owners)


def brute_force(images: Array, texts: Array, owners: npt.NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Ranks by asking of every rival whether it scores at least as high."""
    scores = images.astype(np.float64) @ texts.astype(np.float64).T
    num_images, num_texts = scores.shape
    text_ranks = [
        sum(scores[i, q] >= scores[owners[q], q] - TIE for i in range(num_images) if i != owners[q])
        for q in range(num_texts)
    ]
    image_ranks = []
    for i in range(num_images):
        best = max(scores[i, q] for q in range(num_texts) if owners[q] == i)
        image_ranks.append(sum(scores[i, q] >= best - TIE for q in range(num_texts) if owners[q] != i))
    return text_ranks, image_ranks


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("quantised", [True, False])
def test_ranks_equal_counting_by_hand(seed: int, quantised: bool) -> None:
    counts = np.random.default_rng(seed).integers(1, 6, 30).tolist()
    owners = owners_of(counts, seed)
    images = quantised_rows(30, seed) if quantised else unit_rows(30, 8, seed)
    texts = quantised_rows(len(owners), seed + 100) if quantised else unit_rows(len(owners), 8, seed + 100)
    ranks = retrieval_ranks(images, texts, owners)
    text_ranks, image_ranks = brute_force(images, texts, owners)
    assert ranks.text_to_image.tolist() == text_ranks
    assert ranks.image_to_text.tolist() == image_ranks


@pytest.mark.parametrize("elements", [1, 100, 1000])
def test_small_blocks_give_the_same_ranks(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    owners = owners_of([1, 4, 2, 3] * 8)
    images, texts = quantised_rows(32, 0), quantised_rows(len(owners), 1)
    whole = retrieval_ranks(images, texts, owners)
    monkeypatch.setattr(ranks, "_BLOCK_ELEMENTS", elements)
    parts = retrieval_ranks(images, texts, owners)
    assert np.array_equal(parts.text_to_image, whole.text_to_image)
    assert np.array_equal(parts.image_to_text, whole.image_to_text)


def test_a_perfect_model_finds_everything_first() -> None:
    basis = np.eye(12, dtype=np.float32)
    metrics = point_metrics(retrieval_ranks(basis, basis.repeat(3, axis=0), np.arange(12).repeat(3)))
    assert all(value == 1 for value in metrics.values())


def test_a_model_that_gives_every_input_the_same_vector_finds_nothing() -> None:
    images, texts = np.ones((12, 4), np.float32) / 2, np.ones((24, 4), np.float32) / 2
    ranks = retrieval_ranks(images, texts, np.arange(12).repeat(2))
    assert set(ranks.text_to_image.tolist()) == {11}  # behind all other images
    assert set(ranks.image_to_text.tolist()) == {22}  # behind the captions of all other images
    assert point_metrics(ranks)["text_to_image_recall@10"] == 0


def test_a_model_that_shifts_every_answer_by_one_has_no_recall_at_1() -> None:
    basis = np.eye(12, dtype=np.float32)
    metrics = point_metrics(retrieval_ranks(basis, np.roll(basis, 1, axis=0), np.arange(12)))
    assert metrics["text_to_image_recall@1"] == metrics["image_to_text_recall@1"] == 0


def test_an_image_twice_in_the_gallery_counts_against_its_captions() -> None:
    images = unit_rows(200, 384, 0)
    images[100:] = images[:100]  # float32 products of equal rows may differ by their place
    texts = images.copy()
    ranks = retrieval_ranks(images, texts, np.arange(200))
    assert set(ranks.text_to_image.tolist()) == {1}
    assert set(ranks.image_to_text.tolist()) == {1}


def test_a_caption_given_to_two_images_counts_against_both() -> None:
    images = np.eye(3, dtype=np.float32)
    texts = np.stack([images[0], images[0], images[2]])
    ranks = retrieval_ranks(images, texts, np.array([0, 1, 2]))
    assert ranks.image_to_text.tolist() == [1, 2, 0]  # image 1's own caption scores 0, as does image 2's


def test_an_images_other_captions_are_no_rivals_whatever_they_score() -> None:
    # The second caption scores one tie's width less than the best: rounding may put it on either side of it
    images = unit_rows(400, 384, 0).astype(np.float64)
    captions = images + 0.05 * unit_rows(400, 384, 1)
    captions /= np.linalg.norm(captions, axis=1, keepdims=True)
    other = unit_rows(400, 384, 2) - (unit_rows(400, 384, 2) * images).sum(1, keepdims=True) * images
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    score = (captions * images).sum(1, keepdims=True) - TIE
    texts = np.empty((800, 384))
    texts[::2], texts[1::2] = captions, score * images + np.sqrt(1 - score**2) * other
    ranks = retrieval_ranks(images.astype(np.float32), texts.astype(np.float32), np.arange(400).repeat(2))
    assert set(ranks.image_to_text.tolist()) == {0}


def test_one_image_is_always_found() -> None:
    ranks = retrieval_ranks(unit_rows(1, 4, 0), unit_rows(2, 4, 1), np.array([0, 0]))
    assert ranks.text_to_image.tolist() == [0, 0]
    assert ranks.image_to_text.tolist() == [0]


def test_double_precision_embeddings_are_taken_too() -> None:
    images, texts, owners = unit_rows(9, 4, 0), unit_rows(18, 4, 1), owners_of([2] * 9)
    single = retrieval_ranks(images, texts, owners)
    double = retrieval_ranks(images.astype(np.float64), texts.astype(np.float64), owners.astype(np.int32))
    assert np.array_equal(single.text_to_image, double.text_to_image)
    assert np.array_equal(single.image_to_text, double.image_to_text)


def test_images_without_a_caption_are_an_error_with_their_number() -> None:
    with pytest.raises(UserError, match=r"caption for every image \(2 images have none\)"):
        retrieval_ranks(unit_rows(4, 4, 0), unit_rows(3, 4, 1), np.array([0, 3, 3]))


def test_no_captions_at_all_are_an_error() -> None:
    with pytest.raises(UserError, match="4 images have none"):
        retrieval_ranks(unit_rows(4, 4, 0), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


def test_no_images_at_all_are_an_error() -> None:
    nothing = np.zeros((0, 4), np.float32)
    with pytest.raises(UserError, match="needs a caption"):
        retrieval_ranks(nothing, nothing, np.zeros(0, np.int64))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("side", ["image", "text"])
def test_embeddings_that_are_not_finite_are_an_error(value: float, side: str) -> None:
    images, texts = unit_rows(3, 4, 0), unit_rows(3, 4, 1)
    (images if side == "image" else texts)[1, 2] = value
    with pytest.raises(UserError, match="not finite"):
        retrieval_ranks(images, texts, np.arange(3))


def benchmark_recalls(images: Array, texts: Array, owners: npt.NDArray[np.int64], k: int) -> tuple[float, float]:
    """CLIP_benchmark's definition: is any right answer among the k highest scores of a query?"""
    scores = texts @ images.T
    matches = owners[:, None] == np.arange(len(images))
    image_found = [row[np.argsort(-score)[:k]].any() for score, row in zip(scores, matches, strict=True)]
    text_found = [row[np.argsort(-score)[:k]].any() for score, row in zip(scores.T, matches.T, strict=True)]
    return float(np.mean(image_found)), float(np.mean(text_found))


@pytest.mark.parametrize("k", [1, 5, 10])
def test_recalls_equal_the_definition_of_clip_benchmark(k: int) -> None:
    owners = np.arange(60).repeat(5)
    images = unit_rows(60, 16, 0)
    noisy = images[owners] + 1.2 * unit_rows(300, 16, 1)
    texts = (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)
    metrics = point_metrics(retrieval_ranks(images, texts, owners))
    text_to_image, image_to_text = benchmark_recalls(images, texts, owners, k)
    assert metrics[f"text_to_image_recall@{k}"] == pytest.approx(text_to_image)
    assert metrics[f"image_to_text_recall@{k}"] == pytest.approx(image_to_text)
    assert 0.05 < text_to_image <= 1  # the data are neither trivial nor hopeless


def test_the_median_rank_counts_from_1() -> None:
    ranks = Ranks(np.array([0, 2, 7, 7]), np.array([3, 4]), np.array([0, 0, 1, 1]))
    metrics = point_metrics(ranks)
    assert metrics["text_to_image_median_rank"] == 5.5
    assert metrics["image_to_text_median_rank"] == 4.5


def test_intervals_lie_around_the_plain_recalls() -> None:
    owners = owners_of([1, 2, 5] * 20)
    ranks = retrieval_ranks(unit_rows(60, 4, 0), unit_rows(len(owners), 4, 1), owners)
    plain, metrics = point_metrics(ranks), retrieval_metrics(ranks)
    assert list(metrics) == [*plain, "mean_recall"]
    for name, value in plain.items():
        interval = metrics[name]
        if "_rank" not in name:
            assert isinstance(interval, Interval)
            assert interval.value == pytest.approx(value)
            assert interval.low <= value <= interval.high
        else:
            assert interval == value


def test_metrics_have_the_names_that_records_promise() -> None:
    ranks = retrieval_ranks(unit_rows(3, 4, 0), unit_rows(3, 4, 1), np.arange(3))
    expected = {f"{way}_recall@{k}" for way in ("text_to_image", "image_to_text") for k in (1, 5, 10)}
    others = ("median_rank", "mean_rank", "mean_average_precision", "r_precision")
    expected |= {f"{way}_{name}" for way in ("text_to_image", "image_to_text") for name in others}
    assert expected == set(point_metrics(ranks))


def test_mean_recall_leaves_the_ranks_out() -> None:
    metrics = {"text_to_image_recall@1": 0.2, "image_to_text_recall@1": 0.4, "text_to_image_median_rank": 90.0}
    assert mean_recall(metrics) == pytest.approx(0.3)


def evaluation(value: Interval | float, rank: float = 3.5) -> EvalResult:
    ways = ("text_to_image", "image_to_text")
    metrics: dict[str, Interval | float] = {f"{way}_recall@{k}": value for way in ways for k in (1, 5, 10)}
    metrics |= {f"{way}_median_rank": rank for way in ways}
    return EvalResult(task="retrieval", dataset="x", split="val", num_images=10, num_captions=50, metrics=metrics)


def test_recalls_are_percent_with_their_intervals() -> None:
    rows = Retrieval().rows(evaluation(Interval(value=0.186, low=0.1741, high=0.198), rank=3.0))
    assert rows == [[f"{way}", *["18.6 [17.4, 19.8]"] * 3, "3"] for way in ("text → image", "image → text")]
    assert all(len(row) == len(Retrieval.columns) for row in rows)


def test_recalls_without_intervals_are_percent_too() -> None:
    assert Retrieval().rows(evaluation(0.5))[0][1:] == ["50.0", "50.0", "50.0", "3.5"]


def test_each_recall_stands_in_its_own_column() -> None:
    result = evaluation(0.0)
    result.metrics["text_to_image_recall@1"], result.metrics["image_to_text_recall@10"] = 0.1, 0.9
    assert [row[1:4] for row in Retrieval().rows(result)] == [["10.0", "0.0", "0.0"], ["0.0", "0.0", "90.0"]]
