"""Ranks and precisions with several right answers, against counting by hand and scikit-learn."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import average_precision_score

from pocketclip.evaluate import ranks as ranks_of
from pocketclip.evaluate.ranks import TIE, retrieval_ranks
from pocketclip.evaluate.tasks.retrieval import point_metrics

Array = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


def unit_rows(count: int, width: int, seed: int) -> Array:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def pairs(seed: int, num_texts: int, *, tied: bool) -> tuple[Array, Array, Ids, Ids]:
    """Images, texts of which some are the same, the image of each, and a number for each different text."""
    random = np.random.default_rng(seed)
    owners = random.permutation(np.concatenate([np.arange(12), random.integers(0, 12, 28)]))
    same = random.integers(0, num_texts, 40)
    if tied:  # vectors of four halves: most scores are exact ties
        images, texts = (random.choice(np.array([-0.5, 0.5], np.float32), (size, 4)) for size in (12, num_texts))
    else:
        images, texts = unit_rows(12, 6, seed), unit_rows(num_texts, 6, seed + 50)
    return images, texts[same], owners, same


def by_hand(right: Sequence[bool], scores: Sequence[float]) -> tuple[int, float, float]:
    """Rank of the first right answer, average precision and R-precision of one query; ties count against it."""
    wrong = [score for score, is_right in zip(scores, right, strict=True) if not is_right]
    good = sorted((score for score, is_right in zip(scores, right, strict=True) if is_right), reverse=True)
    places = [sum(rival >= score - TIE for rival in wrong) + before for before, score in enumerate(good)]
    precision = sum((before + 1) / (place + 1) for before, place in enumerate(places)) / len(good)
    return places[0], precision, sum(place < len(good) for place in places) / len(good)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_texts", [3, 20])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("mode", ["own", "right"])
@pytest.mark.parametrize("few", [0, 2, 8])
def test_every_query_equals_counting_by_hand(
    seed: int, num_texts: int, tied: bool, mode: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks_of, "_FEW", few)
    monkeypatch.setattr(ranks_of, "_BLOCK_ELEMENTS", 100)
    images, texts, owners, same = pairs(seed, num_texts, tied=tied)
    ranks = retrieval_ranks(images, texts, owners, same if mode == "right" else None)
    scores = texts.astype(np.float64) @ images.astype(np.float64).T
    names = same if mode == "right" else np.arange(len(same))
    right = np.array([[name in names[owners == image] for image in range(12)] for name in names])
    for query in range(len(texts)):
        found = by_hand(right[query].tolist(), scores[query].tolist())
        own = [ranks.precisions[f"text_to_image_{name}"][query] for name in ("average_precision", "r_precision")]
        assert (ranks.text_to_image[query], *own) == pytest.approx(found, abs=1e-12)
    for image in range(12):
        found = by_hand(right[:, image].tolist(), scores[:, image].tolist())
        own = [ranks.precisions[f"image_to_text_{name}"][image] for name in ("average_precision", "r_precision")]
        assert (ranks.image_to_text[image], *own) == pytest.approx(found, abs=1e-12)


def test_average_precision_is_scikit_learns_where_nothing_ties() -> None:
    images, texts, owners = unit_rows(12, 6, 0), unit_rows(40, 6, 1), np.arange(40) % 12
    ranks = retrieval_ranks(images, texts, owners)
    expected = [average_precision_score(owners == image, texts @ images[image]) for image in range(12)]
    assert ranks.precisions["image_to_text_average_precision"] == pytest.approx(expected)


def test_a_caption_of_every_picture_is_always_right_where_its_pictures_are() -> None:
    same = np.repeat(np.arange(3), 4)
    names = unit_rows(3, 8, 0)
    metrics = point_metrics(retrieval_ranks(names[same], names[same], np.arange(12), same))
    assert {value for name, value in metrics.items()} == {1.0}
    own = point_metrics(retrieval_ranks(names[same], names[same], np.arange(12)))
    assert own["text_to_image_recall@1"] == 0  # four pictures tie, and only one is right


@pytest.mark.parametrize("same", [None, np.zeros(2, np.int64)])
def test_one_image_is_first_with_all_of_its_captions(same: Ids | None) -> None:
    metrics = point_metrics(retrieval_ranks(unit_rows(1, 4, 0), unit_rows(2, 4, 1), np.zeros(2, np.int64), same))
    assert set(metrics.values()) == {1.0}
