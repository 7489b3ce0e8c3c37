"""Person retrieval against the definitions of the papers, query by query, with ties and people of few words."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from held import Held
from pocketclip.errors import UserError
from pocketclip.evaluate import ranks as ranks_of
from pocketclip.evaluate.identity_ranks import identity_ranks
from pocketclip.evaluate.ranked import TIE
from pocketclip.evaluate.statistics import ratios
from pocketclip.evaluate.tasks import embedding_task, make_tasks
from pocketclip.evaluate.tasks.person_retrieval import CHANCE, PersonRetrieval
from pocketclip.features.encode import Embeddings
from pocketclip.records import Interval

Array = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


@dataclass
class People(Held):
    """Pictures of people, in memory."""

    people: Sequence[str | None] = field(default_factory=tuple)
    has_identities = True

    def identity(self, index: int) -> str | None:
        return self.people[index]


def rows(count: int, seed: int, *, tied: bool) -> Array:
    random = np.random.default_rng(seed)
    if tied:  # 16 different vectors, so that most scores are exact ties
        return random.choice(np.array([-0.5, 0.5], np.float32), (count, 4))
    values = random.normal(size=(count, 6))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def published(scores: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> dict[str, float]:
    """One query as the published evaluation has it: CMC, AP and INP of the gallery sorted by score.

    Of equal scores the wrong ones come first.
    """
    near = np.array([score + TIE if not own else score for score, own in zip(scores, right, strict=True)])
    order = np.lexsort((right, -near))
    matches = right[order].astype(float)
    cumulated = matches.cumsum()
    places = np.flatnonzero(matches)
    precision = cumulated / (np.arange(len(matches)) + 1)
    found = {f"recall@{k}": float(cumulated[:k].max(initial=0) > 0) for k in (1, 5, 10)}
    found["mean_average_precision"] = float((precision * matches).sum() / matches.sum())
    found["mean_inverse_negative_penalty"] = float(cumulated[places[-1]] / (places[-1] + 1))
    return found


def oracle(images: Array, texts: Array, image_people: Ids, text_people: Ids) -> dict[str, float]:
    scores = texts.astype(np.float64) @ images.astype(np.float64).T
    right = text_people[:, None] == image_people
    ways = {
        "text_to_image": [published(scores[q], right[q]) for q in range(len(texts))],
        "image_to_text": [published(scores[:, i], right[:, i]) for i in range(len(images)) if right[:, i].any()],
    }
    return {
        f"{way}_{name}": float(np.mean([query[name] for query in queries]))
        for way, queries in ways.items()
        for name in queries[0]
    }


def made(seed: int, *, tied: bool, num_people: int = 9) -> tuple[Embeddings, People]:
    """Pictures of people, one of whom none is described, and one of nobody."""
    random = np.random.default_rng(seed)
    people = [
        f"p{number}"
        for number in random.permutation(np.repeat(np.arange(num_people), random.integers(1, 5, num_people)))
    ]
    texts = [
        tuple(f"{index} {n}" for n in range(0 if name == "p0" else random.integers(1, 4)))
        for index, name in enumerate(people)
    ]
    source = People(texts=[*texts, ("nobody",)], people=[*people, None])
    owners = np.repeat(np.arange(len(source)), [len(own) for own in source.texts])
    images, words = rows(len(source), seed, tied=tied), rows(len(owners), seed + 100, tied=tied)
    return Embeddings(images, words, owners, np.arange(len(source)), []), source


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("few", "elements"), [(0, 40), (2, 1000), (8, 1 << 24)])
def test_every_score_is_that_of_the_published_definitions(
    seed: int, tied: bool, few: int, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks_of, "_FEW", few)
    monkeypatch.setattr(ranks_of, "_BLOCK_ELEMENTS", elements)
    embeddings, source = made(seed, tied=tied)
    people = np.array([int(name[1:]) if name else -1 for name in source.people])
    known, of_texts = people >= 0, people[embeddings.text_images]
    expected = oracle(embeddings.images[known], embeddings.texts[of_texts >= 0], people[known], of_texts[of_texts >= 0])
    task = PersonRetrieval()
    points = task.points(embeddings, source)
    assert {name: points[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert points["mean_recall"] == pytest.approx(np.mean([expected[name] for name in expected if "@" in name]))
    result = task.result(embeddings, source, split="test")
    for name, value in expected.items():
        own = result.metrics[name]
        assert isinstance(own, Interval)
        assert own.low <= own.value <= own.high
        assert own.value == pytest.approx(value, abs=1e-12)
    assert result.num_images == known.sum()
    assert (result.split, result.metrics["num_identities"]) == ("test", 9)
    assert "1 images without an identity left out" in result.notes


def test_a_pair_of_another_picture_of_the_person_is_right() -> None:
    images = np.eye(4, dtype=np.float32)
    texts = images[[1, 0, 3, 2]]  # every text finds the other picture of its person
    people = np.array([0, 0, 1, 1])
    ranks = identity_ranks(images, texts, people, people)
    assert set(ranks.text_to_image.tolist()) == {0}
    assert ranks.shares["text_to_image_inverse_negative_penalty"].max() < 1  # the other one is last, with all that tie


def test_a_model_that_gives_every_input_the_same_vector_is_right_by_nobody() -> None:
    source = People(texts=[("a", "b")] * 12, people=[f"p{n // 2}" for n in range(12)])
    same = np.ones((24, 4), np.float32) / 2
    embeddings = Embeddings(same[:12], same, np.repeat(np.arange(12), 2), np.arange(12), [])
    points = PersonRetrieval().points(embeddings, source)
    assert points["text_to_image_recall@10"] == 0  # behind ten pictures of others


def test_chance_is_what_drawing_at_random_finds() -> None:
    people = ["a"] * 6 + ["b"] * 2
    source = People(texts=[("x",)] * 7 + [("x", "y")], people=people)
    task, random = PersonRetrieval(), np.random.default_rng(0)
    found = task.guessing_on(source, 8)
    queries = [name for name, texts in zip(people, source.texts, strict=True) for _ in texts]
    drawn = [np.mean([own in np.array(people)[random.permutation(8)[:5]] for own in queries]) for _ in range(4000)]
    assert found["text_to_image_recall@5"] == pytest.approx(np.mean(drawn), abs=0.01)
    assert found["text_to_image_recall@1"] == pytest.approx((6 * 6 / 8 + 3 * 2 / 8) / 9)
    owners = np.repeat(np.arange(8), [1] * 7 + [2])
    result = task.result(Embeddings(rows(8, 0, tied=False), rows(9, 1, tied=False), owners, np.arange(8), []), source)
    assert result.metrics[CHANCE] == pytest.approx(found["text_to_image_recall@1"])
    assert task.chance(result) == ("R@1", result.metrics[CHANCE])
    assert "by chance 58.3" in task.remarks(result)[0]


def test_units_are_people_and_give_the_scores() -> None:
    embeddings, source = made(3, tied=False)
    task = PersonRetrieval()
    answers = task.answers(embeddings, source)
    (units,) = task.units(answers)
    assert {len(hits) for hits, _ in units.values()} == {8}  # of p0 nothing is said
    assert len(set(task.identities(embeddings, source).tolist())) == 8
    points = task.points(embeddings, source)
    for name, value in ratios([units], task.means).items():
        assert points[name] == pytest.approx(value)


def test_intervals_are_over_people_not_pictures() -> None:
    """Ten pictures that always fail together are one person's fate."""
    people = np.repeat(np.arange(20), 10)
    images = np.eye(20, dtype=np.float32)[people]
    texts = images.copy()
    texts[people % 2 == 1] *= -1
    source = People(texts=[("x",)] * 200, people=[str(one) for one in people])
    result = PersonRetrieval().result(Embeddings(images, texts, np.arange(200), np.arange(200), []), source)
    score = result.metrics["text_to_image_recall@1"]
    assert isinstance(score, Interval)
    assert score.value == 0.5
    assert score.high - score.low > 0.3  # 0.14 over pictures


def test_the_table_shows_all_scores() -> None:
    embeddings, source = made(0, tied=False)
    (task,) = make_tasks(["person_retrieval"], {})
    result = PersonRetrieval().result(embeddings, source)
    assert [row[0] for row in task.rows(result)] == ["text → image", "image → text"]
    assert {len(row) for row in task.rows(result)} == {len(task.columns)}
    assert "identities" in task.counts(result)
    assert embedding_task("person_retrieval") == task


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Held(texts=[("a",), ("b",)]), "no image has an identity"),
        (People(texts=[("a",), ("b",)], people=[None, None]), "no image has an identity"),
        (People(texts=[(), ("b",)], people=["p", None]), "no readable picture with an identity has a caption"),
    ],
)
def test_a_source_that_cannot_be_measured_is_refused(source: Any, message: str) -> None:
    owners = np.repeat(np.arange(2), [len(own) for own in source.texts])
    embeddings = Embeddings(rows(2, 0, tied=False), rows(len(owners), 1, tied=False), owners, np.arange(2), [])
    with pytest.raises(UserError, match=message):
        PersonRetrieval().result(embeddings, source)
