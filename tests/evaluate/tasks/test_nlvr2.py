"""Accuracy and consistency against counting by hand."""

import numpy as np
import pytest
import torch

from conftest import build_tiny_pretrained
from pocketclip.data import open_source
from pocketclip.errors import UserError
from pocketclip.evaluate.statistics import ratios
from pocketclip.evaluate.tasks import TaskData
from pocketclip.evaluate.tasks.nlvr2 import Nlvr2, judge_examples, pair_metrics, sentence_units
from pocketclip.features.encode import Embeddings
from pocketclip.models.pair_head import PairHead, judge_of
from pocketclip.records import Interval


class FirstNumber(torch.nn.Module):
    """Says what the left image's first number says."""

    def __init__(self) -> None:
        super().__init__()
        self.zero = torch.nn.Parameter(torch.zeros(()))

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        assert torch.equal(text[0::2], text[1::2])
        return image[0::2, 0] + self.zero


FIRST_NUMBER = judge_of(FirstNumber())


def make_embeddings(says: list[float], missing: tuple[int, ...] = ()) -> Embeddings:
    """Embeddings of examples whose left image says so; the samples in `missing` could not be read."""
    indices = np.array([index for index in range(2 * len(says)) if index not in missing])
    images = np.array([[says[index // 2] if index % 2 == 0 else 0.0, 1.0] for index in indices], np.float32)
    texts = np.array([[float(index // 2), 1.0] for index in indices], np.float32)
    order = np.random.default_rng(0).permutation(len(indices))  # texts need not come in the order of their images
    return Embeddings(images, texts[order], order, indices, [])


def test_known_values() -> None:
    source = open_source("scene_pairs:8")  # labels true, false, true, false, ...; two sentences of four
    embeddings = make_embeddings([1, -1, 1, -1, 1, -1, 1, 1])
    scores = Nlvr2().points(embeddings, source, FIRST_NUMBER)
    assert (scores["accuracy"], scores["consistency"]) == (7 / 8, 1 / 2)
    result = Nlvr2().result(embeddings, source, FIRST_NUMBER, split="val")
    assert (result.task, result.split, result.num_images, result.num_captions) == ("nlvr2", "val", 16, 8)
    accuracy, consistency = result.metrics["accuracy"], result.metrics["consistency"]
    assert isinstance(accuracy, Interval)
    assert isinstance(consistency, Interval)
    assert (accuracy.value, consistency.value) == (7 / 8, 1 / 2)
    assert accuracy.low <= accuracy.value <= accuracy.high


def test_examples_with_an_unreadable_image_are_left_out() -> None:
    source = open_source("scene_pairs:8")
    examples, logits = judge_examples(FIRST_NUMBER, make_embeddings([1, -1] * 4, missing=(3, 4, 5, 8)))
    assert examples.tolist() == [0, 3, 5, 6, 7]
    assert len(logits) == 5
    result = Nlvr2().result(make_embeddings([1, -1] * 4, missing=(3, 4, 5, 8)), source, FIRST_NUMBER)
    assert result.notes == ["3 examples left out, of which an image cannot be read"]
    with pytest.raises(UserError, match="of no example"):
        Nlvr2().result(make_embeddings([1, -1] * 4, missing=tuple(range(1, 16, 2))), source, FIRST_NUMBER)


def test_consistency_against_a_slow_loop() -> None:
    random = np.random.default_rng(0)
    correct, sentences = random.random(60) < 0.8, random.integers(0, 20, 60)
    hits, counts = sentence_units(correct, sentences)["accuracy"]
    assert (hits.sum(), counts.sum()) == (correct.sum(), 60)
    by_hand = [all(correct[sentences == sentence]) for sentence in np.unique(sentences)]
    metrics = pair_metrics(correct, sentences)
    assert metrics["consistency"].value == pytest.approx(np.mean(by_hand))  # type: ignore[union-attr]
    assert metrics["accuracy"].value == pytest.approx(correct.mean())  # type: ignore[union-attr]


def test_the_task_says_what_it_needs() -> None:
    model = build_tiny_pretrained()
    with pytest.raises(UserError, match="has single images; judging pairs needs nlvr2"):
        Nlvr2().run(model, TaskData(open_source("scenes:8,image_size=32")))
    pairs = open_source("scene_pairs:8,image_size=32")
    with pytest.raises(UserError, match="no pair head"):
        Nlvr2().run(model, TaskData(pairs))
    model.judge_pairs = judge_of(PairHead(16, 8, 0.0).eval())
    assert Nlvr2().run(model, TaskData(pairs)).num_captions == 8


def test_answers_can_be_kept_and_give_the_scores_again() -> None:
    source, embeddings = open_source("scene_pairs:8"), make_embeddings([1, -1, 1, -1, 1, -1, 1, 1])
    kept = {name: values.astype(np.int64) for name, values in Nlvr2().answers(embeddings, source, FIRST_NUMBER).items()}
    (units,) = Nlvr2().units(kept)
    assert {name: counts.tolist() for name, (_, counts) in units.items()} == {
        "accuracy": [4, 4],
        "consistency": [1, 1],
    }
    assert ratios([units], {}) == {"accuracy": 7 / 8, "consistency": 1 / 2}
