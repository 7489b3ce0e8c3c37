"""What is ranked: each picture once, whatever its copies, and what is said of that."""

import numpy as np
import pytest

from pocketclip.data import open_source
from pocketclip.evaluate.gallery import gallery, small_gallery
from pocketclip.evaluate.tasks.folds import Folds
from pocketclip.evaluate.tasks.retrieval import Retrieval
from pocketclip.features.encode import Embeddings
from pocketclip.records import Interval


def unit(count: int, seed: int, width: int = 6) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def joined_and_apart() -> tuple[Embeddings, Embeddings]:
    """Twenty pictures with six captions each, and the same as two files a picture with three captions each."""
    images, texts = unit(20, 0), unit(120, 1)
    whole = Embeddings(images, texts, np.repeat(np.arange(20), 6), np.arange(20), [], np.arange(20))
    twice = np.repeat(images, 2, axis=0)
    apart = Embeddings(twice, texts, np.repeat(np.arange(40), 3), np.arange(40), [], np.repeat(np.arange(20), 2) + 7)
    return whole, apart


def test_copies_score_what_joined_pictures_score() -> None:
    source, (whole, apart) = open_source("scenes:40"), joined_and_apart()
    task = Retrieval()
    expected, found = (task.result(embeddings, source) for embeddings in (whole, apart))
    assert found.metrics == expected.metrics
    assert found.num_images == 20
    assert found.notes[0].startswith("40 images are 20 different pictures: each stands in the gallery once")
    assert task.points(apart, source) == task.points(whole, source)


def test_copies_that_are_rivals_would_score_less() -> None:
    source, (_, apart) = open_source("scenes:40"), joined_and_apart()
    blind = Embeddings(apart.images, apart.texts, apart.text_images, apart.indices, [])
    task = Retrieval()
    assert task.points(blind, source)["mean_recall"] < task.points(apart, source)["mean_recall"]


def test_an_image_without_a_caption_has_those_of_its_copy() -> None:
    images = unit(3, 0)
    embeddings = Embeddings(images[[0, 0, 1, 2]], images, np.array([1, 2, 3]), np.arange(4), [], np.array([5, 5, 6, 7]))
    kept, notes = gallery(embeddings, np.zeros(4, np.int64))
    assert kept.text_images.tolist() == [0, 1, 2]
    assert len(notes) == 1
    assert "without a caption" not in notes[0]


def test_copies_in_two_folds_stay_in_both() -> None:
    indices, pictures = np.array([0, 1, 1000, 1001]), np.array([5, 6, 5, 8])
    embeddings = Embeddings(unit(4, 0), unit(4, 1), np.arange(4), indices, [], pictures)
    kept, notes = gallery(embeddings, Folds().gallery_of(embeddings))
    assert len(kept.images) == 4
    assert notes == []


@pytest.mark.parametrize(
    ("caption_ids", "expected"),
    [
        ([1, 2, 3, 4], None),
        ([1, 1, 3, 4], "2 of 4 captions are the caption of several pictures, too: text to image R@1 can reach 75.0 %"),
        ([9, 9, 9, 9], "4 of 4 captions are the caption of several pictures, too: text to image R@1 can reach 25.0 %"),
    ],
)
def test_repeated_captions_are_told_with_what_they_leave_to_reach(caption_ids: list[int], expected: str | None) -> None:
    arrays = (unit(4, 0), unit(4, 1), np.arange(4), np.arange(4))
    _, notes = gallery(Embeddings(*arrays, [], np.arange(4), np.array(caption_ids)), np.zeros(4, np.int64))
    assert [note.startswith(expected or "") for note in notes] == [True] * (expected is not None)


def test_a_caption_twice_of_one_picture_is_no_repetition() -> None:
    arrays = (unit(2, 0), unit(3, 1), np.array([0, 0, 1]), np.arange(2))
    embeddings = Embeddings(*arrays, [], np.arange(2), np.array([4, 4, 5]))
    assert gallery(embeddings, np.zeros(2, np.int64))[1] == []


def test_of_a_small_gallery_the_interval_is_said_first() -> None:
    metrics = {"text_to_image_recall@1": Interval(value=0.6, low=0.2, high=0.9)}
    (note,) = small_gallery(6, metrics)
    assert note.startswith("a gallery of 6 pictures is small: text to image R@1 lies between 20.0 and 90.0 %")
    assert small_gallery(100, metrics) == []
