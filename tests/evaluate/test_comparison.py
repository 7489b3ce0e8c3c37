"""Two models on the same items: paired intervals, sure and unsure verdicts, several seeds, and items that differ."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pocketclip.errors import UserError
from pocketclip.evaluate.comparison import FEWEST, compare
from pocketclip.evaluate.intervals import join, student_t
from pocketclip.evaluate.items import Items
from pocketclip.evaluate.statistics import resampled_ratios
from pocketclip.records import EvalResult

RANDOM = np.random.default_rng(5)
NUM = 80


def items(
    right: Any, *, name: str = "a", seed: int | None = None, ids: npt.NDArray[np.int64] | None = None, **changes: Any
) -> Items:
    """Right or wrong of each image, in zero-shot classification."""
    shares = np.asarray(right, np.float64)
    record = {
        "task": "zero_shot", "dataset": "folder:x", "split": "all", "num_images": len(shares), "num_captions": 0,
        "metrics": {}, "model": name, "seed": seed, **changes,
    }  # fmt: skip
    own = np.arange(len(shares), dtype=np.int64) if ids is None else ids
    return Items(EvalResult.model_validate(record), {"top1_accuracy": shares}, own, name)


def drawn(share: float) -> npt.NDArray[np.bool_]:
    return RANDOM.random(NUM) < share


def test_the_difference_is_that_of_a_paired_resampling() -> None:
    a, b = drawn(0.8), drawn(0.5)
    found = compare([items(a)], [items(b, name="b")]).metrics["top1_accuracy"]
    draws = [resampled_ratios([{"x": (own.astype(float), np.ones(NUM))}], {})["x"] for own in (a, b)]
    expected = join(float(a.mean() - b.mean()), draws[0] - draws[1], [])
    assert found.difference.model_dump() == pytest.approx(expected.model_dump())
    assert (found.a, found.b) == pytest.approx((a.mean(), b.mean()))
    assert (found.wins, found.losses) == ((a & ~b).sum(), (b & ~a).sum())
    assert found.wins + found.losses + found.ties == NUM


def test_the_other_way_round_is_the_negative() -> None:
    a, b = items(drawn(0.8)), items(drawn(0.5), name="b")
    ours, theirs = (compare(*pair).metrics["top1_accuracy"] for pair in (([a], [b]), ([b], [a])))
    gaps = ours.difference, theirs.difference
    assert (gaps[0].value, gaps[0].low, gaps[0].high) == pytest.approx((-gaps[1].value, -gaps[1].high, -gaps[1].low))
    assert (ours.wins, ours.losses) == (theirs.losses, theirs.wins)


@pytest.mark.parametrize("order", [np.arange(NUM)[::-1], RANDOM.permutation(NUM)])
def test_items_are_matched_by_their_ids_in_any_order(order: npt.NDArray[np.int64]) -> None:
    a, b = drawn(0.8), drawn(0.5)
    ids = RANDOM.integers(0, NUM // 2, NUM)  # some pictures are there more than once
    plain = compare([items(a, ids=ids)], [items(b, ids=ids)])
    mixed = np.concatenate([np.flatnonzero(ids == number) for number in order])
    assert compare([items(a, ids=ids)], [items(b[mixed], ids=ids[mixed])]).metrics == plain.metrics


@pytest.mark.parametrize(
    ("a", "b", "sure", "words"),
    [
        ([1] * 40 + [0] * 40, [1] * 10 + [0] * 70, True, "A is better than B by 37.5 points ["),
        ([1] * 10 + [0] * 70, [1] * 40 + [0] * 40, True, "B is better than A by 37.5 points ["),
        ([1, 0] * 40, [0, 1] * 40, False, "Not known which is better in top1 accuracy: A - B is +0.0 points"),
        ([1, 0] * 40, [1, 0] * 40, False, "No difference in top1 accuracy: A and B did alike on every item."),
        ([1, 1], [0, 0], False, f"but only 2 items differ, and below {FEWEST} chance may do that."),
        ([1], [0], False, "but only 1 items differ"),
    ],
)
def test_the_verdict_says_whether_it_holds(a: list[int], b: list[int], sure: bool, words: str) -> None:
    found = compare([items(a)], [items(b, name="b")])
    assert found.metrics["top1_accuracy"].is_sure == sure
    assert words in found.verdict
    assert ("excludes 0" in found.verdict) == sure
    assert "so it does not hold what another seed" in found.rests_on


def test_runs_of_the_same_seeds_are_paired() -> None:
    ours = [items(drawn(0.8), name=f"a{seed}", seed=seed) for seed in (0, 1, 2)]
    theirs = [items(drawn(0.5), name=f"b{seed}", seed=seed) for seed in (2, 0, 1)]
    found = compare(ours, theirs)
    means = [np.mean([own.answers["top1_accuracy"] for own in side], axis=0) for side in (ours, theirs)]
    gaps = [
        ours[seed].answers["top1_accuracy"].mean() - theirs[place].answers["top1_accuracy"].mean()
        for seed, place in ((0, 1), (1, 2), (2, 0))
    ]
    draws = [resampled_ratios([{"x": (own, np.ones(NUM))}], {})["x"] for own in means]
    expected = join(float(means[0].mean() - means[1].mean()), draws[0] - draws[1], gaps)
    assert found.metrics["top1_accuracy"].difference.model_dump() == pytest.approx(expected.model_dump())
    assert "over 3 and 3 runs, of the same seeds" in found.rests_on
    assert found.a.seeds == [0, 1, 2]


def test_runs_of_unknown_seeds_are_independent() -> None:
    ours, theirs = ([items(drawn(0.7), name=f"{side}{number}") for number in range(3)] for side in "ab")
    found = compare(ours, theirs).metrics["top1_accuracy"].difference
    spread = [np.var([own.answers["top1_accuracy"].mean() for own in side], ddof=1) / 3 for side in (ours, theirs)]
    degrees = sum(spread) ** 2 / sum(own**2 / 2 for own in spread)
    half = student_t(int(degrees)) * math.sqrt(sum(spread))
    assert found.high - found.value > half
    one = compare(ours, theirs[:1])
    assert "of the model with one run the spread over seeds is not known" in one.rests_on


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (
            items([1] * 9),
            "measured on different items: 10 images of folder:x and 9 of folder:x, of which 9",
        ),
        (items([1] * 10, name="b", ids=np.arange(5, 15)), "of which 5 are the same; measure both on the same --data"),
        (items([1] * 10, name="b", task="knn"), "a was asked zero_shot, and b knn"),
    ],
)
def test_other_items_are_one_clear_line(other: Items, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        compare([items([1] * 10)], [other])
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_words_and_versions_that_differ_are_noted() -> None:
    protocol = {
        "name": "own", "class_names": "x", "num_classes": 2, "templates": "one", "num_templates": 1, "hash": "1"
    }  # fmt: skip
    a = items([1] * 10, protocol=protocol)
    b = items([1] * 10, name="b", protocol={**protocol, "hash": "2"}, dataset="folder:y")
    assert compare([a], [b]).notes == [
        "class names or templates differ: the difference is of models and words together",
        "the same items by several names: folder:x, folder:y",
    ]


@pytest.mark.parametrize(
    ("task", "ours", "theirs", "reason"),
    [
        ("zero_shot", {"templates": "seven"}, {}, "templates is seven and own"),
        ("zero_shot", {}, {"templates": "seven"}, "templates is own and seven"),
        ("linear_probe", {"sweep": "clip"}, {"sweep": "scaling_down"}, "sweep is clip and scaling_down"),
        ("linear_probe", {"seed": 1}, {"seed": 0}, "seed is 1 and 0"),
        ("few_shot", {"shots": [5, 10]}, {}, "shots is [5, 10] and [1, 2, 4, 5, 8, 10, 16]"),
        ("knn", {"k": 10}, {"k": 20}, "k is 10 and 20"),
    ],
)
def test_other_settings_are_one_clear_line_that_names_them(
    task: str, ours: dict[str, Any], theirs: dict[str, Any], reason: str
) -> None:
    sides = [items([1] * 10, name=name, task=task, settings=own) for name, own in (("a", ours), ("b", theirs))]
    with pytest.raises(UserError) as caught:
        compare(sides[:1], sides[1:])
    assert f"{task} with other settings: {reason}; measure both with the same --set " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("task", "ours", "theirs"),
    [
        ("zero_shot", {"templates": "own"}, {}),  # as it comes
        ("zero_shot", {"metrics": ["top1_accuracy"]}, {"in_distribution": "folder:x"}),
        ("linear_probe", {"against_start": False}, {"against_start": True}),
    ],
)
def test_settings_that_change_no_question_are_compared(task: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    a, b = (items([1] * 10, name=name, task=task, settings=own) for name, own in (("a", ours), ("b", theirs)))
    assert compare([a], [b]).num_units == 10


def test_the_same_words_from_two_files_are_the_same_question() -> None:
    protocol = {
        "name": "own", "class_names": "x", "num_classes": 2, "templates": "one", "num_templates": 1, "hash": "1"
    }  # fmt: skip
    a = items([1] * 10, protocol=protocol, settings={"templates": "/a/one.txt", "k": 1})
    b = items([1] * 10, name="b", protocol=protocol, settings={"templates": "/b/two.txt", "k": 1})
    assert compare([a], [b]).num_units == 10
