"""The Jaccard index of words and pictures against slow counts, and the task on a small set."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from conftest import encode_picture
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data import open_source
from pocketclip.errors import UserError
from pocketclip.evaluate.ranked import TIE
from pocketclip.evaluate.task import TaskData, measure
from pocketclip.evaluate.tasks import make_tasks
from pocketclip.evaluate.tasks.winogavil import Winogavil, guessed, in_words, jaccard_index
from pocketclip.records import EvalResult, Interval


def slow_jaccard(scores: Sequence[float], right: Sequence[bool]) -> float:
    """The worst index of every order that has the scores fall, where equals may stand either way."""
    count, worst = sum(right), 1.0
    for order in itertools.permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            chosen, answers = set(order[:count]), {n for n, own in enumerate(right) if own}
            worst = min(worst, len(chosen & answers) / len(chosen | answers))
    return worst


@pytest.mark.parametrize("seed", range(30))
def test_the_index_is_that_of_the_worst_order_of_ties(seed: int) -> None:
    random = np.random.default_rng(seed)
    size = int(random.integers(2, 7))
    scores = random.integers(0, 3, size).astype(np.float32) / 4
    right = np.zeros(size, np.bool_)
    right[random.permutation(size)[: int(random.integers(1, size + 1))]] = True
    assert jaccard_index(scores, right) == pytest.approx(slow_jaccard(scores.tolist(), right.tolist()))


@pytest.mark.parametrize("seed", range(5))
def test_without_ties_the_index_is_scikit_learns(seed: int) -> None:
    from sklearn.metrics import jaccard_score

    random = np.random.default_rng(seed)
    scores, right = random.permutation(12).astype(np.float32), np.zeros(12, np.bool_)
    right[random.permutation(12)[: 2 + seed % 3]] = True
    chosen = np.isin(np.arange(12), np.argsort(scores)[-right.sum() :])  # as DataComp has it
    assert jaccard_index(scores, right) == pytest.approx(jaccard_score(right, chosen))


def test_a_model_that_maps_everything_to_one_point_scores_as_little_as_can_be() -> None:
    assert jaccard_index(np.ones(10, np.float32), np.arange(10) < 2) == 0
    assert jaccard_index(np.array([0.5, 0.5 + TIE / 4], np.float32), np.array([False, True])) == 0
    assert jaccard_index(np.array([0.1, 0.2], np.float32), np.array([True, True])) == 1


@pytest.mark.parametrize(("size", "count"), [(5, 2), (6, 3), (10, 2), (12, 4), (3, 3), (4, 1)])
def test_guessing_gives_the_mean_over_all_choices(size: int, count: int) -> None:
    choices = list(itertools.combinations(range(size), count))
    answers = set(range(count))
    shares = [len(answers & set(own)) / len(answers | set(own)) for own in choices]
    assert guessed(size, count) == pytest.approx(sum(shares) / len(shares))


@pytest.mark.parametrize(("cue", "asked"), [("Wolf", "A wolf"), ("owl", "An owl"), ("ESPN", "An espn"), ("7", "A 7")])
def test_a_cue_is_asked_for_as_by_datacomp(cue: str, asked: str) -> None:
    assert in_words(cue) == asked


def write(root: Path, sizes: Sequence[int], broken: Sequence[int] = ()) -> str:
    """Two words for each set of pictures of some sizes; of some pictures the bytes are none."""
    (root / "images").mkdir()
    rows, first = [], 0
    for size in sizes:
        names = [f"p{number}" for number in range(first, first + size)]
        for number, name in enumerate(names, start=first):
            data = b"no picture" if number in broken else encode_picture(number, kind="PNG")
            (root / "images" / f"{name}.png").write_bytes(data)
        rows += [{"candidates": names, "cue": f"word {len(rows) + own}", "associations": names[:2]} for own in (0, 1)]
        first += size
    (root / "w.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return f"winogavil:{root / 'w.jsonl'},{root / 'images'}"


def value(result: EvalResult, name: str) -> float:
    metric = result.metrics[name]
    return metric.value if isinstance(metric, Interval) else metric


def test_the_scores_equal_a_slow_count(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    sizes = [5, 6, 8, 10, 12]
    data = TaskData(source := open_source(write(tmp_path, sizes)), keeps_items=True)
    result = measure(Winogavil(), tiny_pretrained, data)
    images = tiny_pretrained.encode_image([source[number].image for number in range(len(source))])
    place = {Path(source.place(number)).stem: number for number in range(len(source))}
    found: dict[int, list[float]] = {}
    for line in (tmp_path / "w.jsonl").read_text().splitlines():
        row = json.loads(line)
        own = images[[place[name] for name in row["candidates"]]]
        scores = own @ tiny_pretrained.encode_text([f"A {row['cue']}"])[0]
        chosen = {row["candidates"][number] for number in np.argsort(scores)[-2:].tolist()}
        right = set(row["associations"])
        found.setdefault(len(own), []).append(len(chosen & right) / len(chosen | right))
    every = [share for shares in found.values() for share in shares]
    assert value(result, "jaccard") == pytest.approx(np.mean(every))
    assert value(result, "jaccard_5_6") == pytest.approx(np.mean([*found[5], *found[6]]))
    assert value(result, "jaccard_10_12") == pytest.approx(np.mean([*found[10], *found[12]]))
    assert value(result, "chance_jaccard") == pytest.approx(np.mean([guessed(size, 2) for size in sizes]))
    task = Winogavil()
    assert task.count(result) == "41 / 10"
    assert [row[0] for row in task.rows(result)] == ["jaccard", "jaccard 5 6", "jaccard 10 12"]
    assert data.items is not None
    answers, ids = data.items
    (units,) = task.units(answers)
    assert len(ids) == len(set(ids.tolist())) == len(units["jaccard"][0]) == len(sizes)  # words of a set stay together
    assert units["jaccard"][1].tolist() == [2.0] * 5


def test_associations_whose_picture_cannot_be_read_are_left_out_and_counted(
    tiny_pretrained: PretrainedModel, tmp_path: Path
) -> None:
    result = measure(Winogavil(), tiny_pretrained, TaskData(open_source(write(tmp_path, [5, 6, 6], broken=[1]))))
    assert (result.num_captions, result.num_images) == (4, 12)
    assert "2 associations left out, of which a picture cannot be read" in result.notes
    assert "jaccard_10_12" not in result.metrics


@pytest.mark.parametrize(("sizes", "broken"), [([2], [0])])
def test_no_association_left_is_one_clear_line(
    tiny_pretrained: PretrainedModel, tmp_path: Path, sizes: list[int], broken: list[int]
) -> None:
    with pytest.raises(UserError, match=r"of no association could every picture be read") as error:
        measure(Winogavil(), tiny_pretrained, TaskData(open_source(write(tmp_path, sizes, broken))))
    assert "\n" not in str(error.value)


def test_other_data_and_other_tasks_are_refused(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="winogavil needs winogavil:FILE,IMAGES"):
        measure(Winogavil(), tiny_pretrained, TaskData(open_source("scenes:4")))
    source = open_source(write(tmp_path, [5]))
    for kind, reason in {
        "retrieval": "--task winogavil",
        "sugarcrepe": "winogavil",
        "zero_shot": "no image has",
    }.items():
        (task,) = make_tasks([kind], {})
        with pytest.raises(UserError, match=reason):
            measure(task, tiny_pretrained, TaskData(source))
