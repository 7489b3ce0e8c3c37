"""The 1K folds against ranking every fold by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data import open_source
from pocketclip.data.source import Subset
from pocketclip.errors import UserError
from pocketclip.evaluate import ranks as ranks_module
from pocketclip.evaluate.ranks import TIE, fold_ranks, retrieval_ranks
from pocketclip.evaluate.statistics import bootstrap_ratio, ratios
from pocketclip.evaluate.tasks import Retrieval, TaskData
from pocketclip.evaluate.tasks import folds as folds_module
from pocketclip.evaluate.tasks.folds import Folds
from pocketclip.evaluate.tasks.retrieval import retrieval_metrics
from pocketclip.features.encode import Embeddings
from pocketclip.records import Interval

Array = npt.NDArray[np.float32]


@pytest.fixture(autouse=True)
def small_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (folds_module, ranks_module):
        monkeypatch.setattr(module, "FOLD", 10)


def unit_rows(count: int, width: int, seed: int) -> Array:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def noisy_pairs(num_images: int, seed: int = 0) -> tuple[Array, Array, npt.NDArray[np.int64]]:
    """Images, one to five captions each near its image in mixed order, and the image of each caption."""
    random = np.random.default_rng(seed)
    owners = random.permutation(np.repeat(np.arange(num_images), random.integers(1, 6, num_images)))
    images = unit_rows(num_images, 8, seed)
    texts = images[owners] + 0.9 * unit_rows(len(owners), 8, seed + 1)
    return images, (texts / np.linalg.norm(texts, axis=1, keepdims=True)).astype(np.float32), owners


def by_hand(images: Array, texts: Array, owners: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64]) -> dict:
    """Fold by fold, query by query: how many rivals score at least as high as the answer?"""
    recalls: dict[str, list[float]] = {}
    for fold in sorted({number // 10 for number in numbers.tolist()}):
        members = [row for row, number in enumerate(numbers.tolist()) if number // 10 == fold]
        captions = [query for query, owner in enumerate(owners.tolist()) if owner in members]
        text_ranks = [
            sum(images[i] @ texts[q] >= images[owners[q]] @ texts[q] - TIE for i in members if i != owners[q])
            for q in captions
        ]
        image_ranks = []
        for i in members:
            best = max(images[i] @ texts[q] for q in captions if owners[q] == i)
            image_ranks.append(sum(images[i] @ texts[q] >= best - TIE for q in captions if owners[q] != i))
        for direction, ranks in (("text_to_image", text_ranks), ("image_to_text", image_ranks)):
            for k in (1, 5, 10):
                recalls.setdefault(f"{direction}_recall@{k}", []).append(np.mean([rank < k for rank in ranks]))
    return {name: float(np.mean(values)) for name, values in recalls.items()}


@pytest.mark.parametrize("seed", range(3))
def test_folds_equal_ranking_each_by_hand(seed: int) -> None:
    images, texts, owners = noisy_pairs(50, seed)
    expected = by_hand(images, texts, owners, np.arange(50))
    metrics = retrieval_metrics(*fold_ranks(images, texts, owners, np.arange(50)))
    for name, value in expected.items():
        assert isinstance(metrics[name], Interval)
        assert metrics[name].value == pytest.approx(value)
    assert metrics["mean_recall"].value == pytest.approx(np.mean(list(expected.values())))
    assert 0.1 < expected["text_to_image_recall@1"] < 0.95  # neither trivial nor hopeless


def test_a_missing_image_leaves_its_fold_smaller_and_moves_no_other() -> None:
    images, texts, owners = noisy_pairs(30)
    numbers = np.delete(np.arange(31), 4)  # the source's fifth is broken
    ranks = fold_ranks(images, texts, owners, numbers)
    assert [len(fold.image_to_text) for fold in ranks] == [9, 10, 10, 1]
    expected = by_hand(images, texts, owners, numbers)
    assert retrieval_metrics(*ranks)["image_to_text_recall@1"].value == pytest.approx(
        expected["image_to_text_recall@1"]
    )


def test_one_fold_is_the_whole_gallery() -> None:
    images, texts, owners = noisy_pairs(10)
    folds = retrieval_metrics(*fold_ranks(images, texts, owners, np.arange(10)))
    assert folds == retrieval_metrics(retrieval_ranks(images, texts, owners))


def test_folds_are_easier_than_the_whole_gallery() -> None:
    images, texts, owners = noisy_pairs(50)
    folds = retrieval_metrics(*fold_ranks(images, texts, owners, np.arange(50)))
    whole = retrieval_metrics(retrieval_ranks(images, texts, owners))
    assert all(folds[name].value >= whole[name].value for name in folds if "recall" in name)


def test_intervals_are_those_of_resampling_within_folds() -> None:
    images, texts, owners = noisy_pairs(40)
    metrics = retrieval_metrics(*fold_ranks(images, texts, owners, np.arange(40)))
    for name, metric in metrics.items():
        if isinstance(metric, Interval):
            assert metric.low <= metric.value <= metric.high, name
    single = retrieval_ranks(images, texts, owners)
    hits = (single.image_to_text < 5).astype(np.float64)
    assert retrieval_metrics(single)["image_to_text_recall@5"] == bootstrap_ratio(hits, np.ones(40))


def test_the_task_reports_folds_and_images_with_more_than_five_captions(
    tiny_pretrained: PretrainedModel, make_folder: Callable[..., Path]
) -> None:
    folder = make_folder(count=20, captions=5)
    (folder / "003.txt").write_text("".join(f"caption {number}\n" for number in range(7)))
    result = Folds().run(tiny_pretrained, TaskData(open_source(f"folder:{folder}")))
    assert (result.task, result.num_images, result.num_captions) == ("retrieval_1k_folds", 20, 102)
    assert "mean of 2 folds" in result.notes[0]
    assert result.notes[1] == "1 images have more than 5 captions; papers take the first five: max_captions=5"
    assert isinstance(result.metrics["mean_recall"], Interval)


def test_broken_and_bare_images_are_left_out_of_their_folds() -> None:
    images, texts, owners = noisy_pairs(20)
    kept = owners != 3
    embeddings = Embeddings(images, texts[kept], owners[kept], np.arange(20), ["x: broken"])
    result = Folds().result(embeddings, open_source("scenes:20,image_size=32"))
    assert result.num_images == 19
    assert result.notes[1:-1] == ["1 images without a caption left out", "1 broken items left out"]


@pytest.mark.parametrize("count", [0, 7, 25])
def test_a_source_that_is_no_whole_folds_is_refused_before_any_work(count: int) -> None:
    with pytest.raises(UserError, match=f"mine: {count} images are no whole folds of 10; .* 5,000 of Karpathy's"):
        Folds().check(Subset(open_source("scenes:30"), np.arange(count), "mine"), None)


def test_answers_can_be_kept_and_give_the_scores_again() -> None:
    images, texts, owners = noisy_pairs(31)
    embeddings = Embeddings(images, texts, owners, np.delete(np.arange(32), 4), [])
    source = open_source("scenes:40,image_size=32")
    for task in (Folds(), Retrieval()):
        kept = task.answers(embeddings, source)
        scores = ratios(task.units(kept), task.means)
        earlier = {name: values for name, values in kept.items() if "precision" not in name}
        assert ratios(task.units(earlier), task.means).items() <= scores.items()
        metrics = task.result(embeddings, source).metrics
        assert len(scores) == 11
        for name, value in scores.items():
            metric = metrics[name]
            assert isinstance(metric, Interval)
            assert value == pytest.approx(metric.value)
        points = task.points(embeddings, source)
        assert points == pytest.approx({name: getattr(metric, "value", metric) for name, metric in metrics.items()})
