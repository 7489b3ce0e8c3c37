"""Which of several captions is nearest, against slow loops on embeddings that are set by hand."""

import json
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import build_tiny_pretrained, encode_picture
from pocketclip.data import open_source
from pocketclip.data.choices import Choices
from pocketclip.data.source import Sample, Source, Subset
from pocketclip.data.sources.sugarcrepe import PARTS
from pocketclip.errors import UserError
from pocketclip.evaluate import tasks
from pocketclip.evaluate.statistics import ratios
from pocketclip.evaluate.task import EmbeddingTask, TaskData, measure_whole_and_parts
from pocketclip.evaluate.tasks import embedding_task
from pocketclip.evaluate.tasks.aro import MIN_EXAMPLES, Aro, relations_left_out
from pocketclip.evaluate.tasks.sugarcrepe import Sugarcrepe
from pocketclip.evaluate.tasks.winoground import Winoground
from pocketclip.features.encode import Embeddings
from pocketclip.records import Interval

TASKS = ("sugarcrepe", "winoground", "aro")


class Asked(Source):
    """Choices without pictures: embeddings are set by hand."""

    name = "asked"

    def __init__(self, choices: Choices | None, num_captions: list[int]) -> None:
        self.asked, self.num_captions = choices, num_captions

    def __len__(self) -> int:
        return len(self.num_captions)

    def sample(self, index: int) -> Sample:
        return Sample(str(index), b"", self.captions(index), self.place(index))

    def captions(self, index: int) -> tuple[str, ...]:
        return tuple(f"{index} {number}" for number in range(self.num_captions[index]))

    def place(self, index: int) -> str:
        return f"asked: {index}"

    def stamp(self) -> Any:
        return self.num_captions

    @property
    def choices(self) -> Choices | None:
        return self.asked


def numbers(*values: int) -> Any:
    return np.array(values, np.int64)


def draw(seed: int, kinds: tuple[str, ...] = ("a", "b", "c"), num_pictures: int = 30) -> Asked:
    """Up to three examples of a picture, of 2 to 5 captions, in any order."""
    random = np.random.default_rng(seed)
    rows, num_captions = [], []
    for sample in range(num_pictures):
        first = 0
        for _ in range(random.integers(0, 4)):
            size = int(random.integers(2, 6))
            rows.append((sample, first, size, int(random.integers(len(kinds)))))
            first += size
        num_captions.append(first)
    table = random.permutation(np.array(rows, np.int64))
    return Asked(Choices(*table.T, kinds), num_captions)


def embed(source: Source, seed: int, missing: tuple[int, ...] = (), width: int = 3) -> Embeddings:
    """Of few different vectors, so that there are ties."""
    random = np.random.default_rng(seed)
    read = numbers(*(index for index in range(len(source)) if index not in missing))
    owners = np.repeat(np.arange(len(read)), [len(source.captions(int(index))) for index in read])
    images, texts = (random.integers(-1, 2, (count, width)).astype(np.float32) for count in (len(read), len(owners)))
    return Embeddings(images, texts, owners, read, [f"{index}: broken" for index in missing])


def right_by_hand(source: Source, embeddings: Embeddings) -> dict[int, bool]:
    """Of each example that can be asked, whether the true caption is strictly the nearest."""
    asked, right = source.choices, {}
    assert asked is not None
    for number, sample in enumerate(asked.samples.tolist()):
        if sample not in embeddings.indices:
            continue
        row = embeddings.indices.tolist().index(sample)
        own = [text for text, owner in enumerate(embeddings.text_images) if owner == row]
        first = asked.firsts[number]
        near = [float(embeddings.images[row] @ embeddings.texts[own[first + k]]) for k in range(asked.sizes[number])]
        right[number] = near[0] > max(near[1:])
    return right


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("missing", [(), (0, 3, 29)])
def test_accuracy_by_kind_and_in_the_mean_equals_a_slow_loop(seed: int, missing: tuple[int, ...]) -> None:
    source = draw(seed)
    embeddings = embed(source, seed, missing)
    right, asked = right_by_hand(source, embeddings), source.choices
    assert asked is not None
    by_kind: dict[str, list[bool]] = {name: [] for name in asked.names}
    for number, answer in right.items():
        by_kind[asked.names[asked.kinds[number]]].append(answer)
    expected = {f"{name}_accuracy": np.mean(own) for name, own in by_kind.items() if own}
    expected |= {"accuracy": np.mean(list(right.values())), "mean_accuracy": np.mean(list(expected.values()))}
    assert Sugarcrepe().points(embeddings, source) == pytest.approx(expected)
    result = Sugarcrepe().result(embeddings, source)
    for name, value in expected.items():
        interval = result.metrics[name]
        assert isinstance(interval, Interval)
        assert interval.value == pytest.approx(value)
        assert -1e-9 <= interval.low <= interval.value <= interval.high <= 1 + 1e-9
    assert result.metrics["num_examples"] == len(right)
    assert result.metrics["chance_accuracy"] == pytest.approx(np.mean([1 / asked.sizes[number] for number in right]))


def test_texts_need_not_come_in_the_order_of_their_images() -> None:
    source = draw(0)
    embeddings = embed(source, 0)
    order = np.argsort(-embeddings.text_images, kind="stable")  # pictures backwards
    turned = Embeddings(
        embeddings.images, embeddings.texts[order], embeddings.text_images[order], embeddings.indices, []
    )
    assert Sugarcrepe().points(turned, source) == Sugarcrepe().points(embeddings, source)


@pytest.mark.parametrize(
    ("true", "false", "right"), [(1.0, 0.5, 1.0), (0.5, 1.0, 0.0), (0.5, 0.5, 0.0), (0.5 + 1e-8, 0.5, 0.0)]
)
def test_a_tie_is_wrong(true: float, false: float, right: float) -> None:
    source = Asked(Choices(numbers(0), numbers(0), numbers(2), numbers(0), ("",)), [2])
    texts = np.array([[true], [false]], np.float32)
    embeddings = Embeddings(np.ones((1, 1), np.float32), texts, numbers(0, 0), numbers(0), [])
    assert Sugarcrepe().points(embeddings, source) == {"accuracy": right}


def test_what_had_to_be_left_out_is_counted() -> None:
    choices = Choices(numbers(0, 0, 2), numbers(0, 2, 0), numbers(2, 2, 2), numbers(0, 0, 0), ("",))
    source = Asked(choices, [4, 1, 2])
    result = Sugarcrepe().result(embed(source, 0, missing=(0,)), source)
    assert (result.num_images, result.num_captions, result.metrics["num_examples"]) == (1, 2, 1)
    assert result.notes == [
        "2 examples left out, of which a picture cannot be read (1 broken items)",
        "1 pictures have no false caption, and nothing is asked of them",
    ]
    with pytest.raises(UserError, match="of no example could the picture be read"):
        Sugarcrepe().result(embed(source, 0, missing=(0, 2)), source)


def test_embeddings_that_are_not_finite_are_refused() -> None:
    source = draw(0)
    embeddings = embed(source, 0)
    embeddings.texts[3] = np.nan
    for task in TASKS[::2]:
        with pytest.raises(UserError, match=f"{task}: the model gave embeddings that are not finite"):
            embedding_task(task).result(embeddings, source)


# Winoground


def twins(num_examples: int) -> Asked:
    samples = np.arange(2 * num_examples)
    zeros = np.zeros_like(samples)
    return Asked(Choices(samples, zeros, zeros + 2, zeros, ("",), twins=True), [2] * len(samples))


def embed_twins(source: Asked, seed: int, missing: tuple[int, ...] = ()) -> Embeddings:
    """Both pictures of an example have the same two captions."""
    random = np.random.default_rng(seed)
    images = random.integers(-2, 3, (len(source), 2)).astype(np.float32)
    captions = random.integers(-2, 3, (len(source), 2)).astype(np.float32)
    read = numbers(*(index for index in range(len(source)) if index not in missing))
    texts = np.stack([captions[own] for index in read for own in (index, index ^ 1)])
    return Embeddings(images[read], texts, np.repeat(np.arange(len(read)), 2), read, [])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("missing", [(), (0, 7, 8, 9)])
def test_winogrounds_scores_equal_a_slow_loop(seed: int, missing: tuple[int, ...]) -> None:
    source = twins(40)
    embeddings = embed_twins(source, seed, missing)
    read = {index: row for row, index in enumerate(embeddings.indices.tolist())}
    text, image = [], []
    for first in range(0, 80, 2):
        if first not in read or first + 1 not in read:
            continue
        i0, i1 = embeddings.images[read[first]], embeddings.images[read[first + 1]]
        c0, c1 = embeddings.texts[2 * read[first] : 2 * read[first] + 2]
        text.append(c0 @ i0 > c1 @ i0 and c1 @ i1 > c0 @ i1)
        image.append(c0 @ i0 > c0 @ i1 and c1 @ i1 > c1 @ i0)
    group = np.array(text) & np.array(image)
    expected = {"text_score": np.mean(text), "image_score": np.mean(image), "group_score": group.mean()}
    assert Winoground().points(embeddings, source) == pytest.approx(expected)
    result = Winoground().result(embeddings, source)
    assert result.metrics["num_examples"] == len(text) == result.num_images / 2
    assert result.notes == (
        [f"{40 - len(text)} examples left out, of which a picture cannot be read"] if missing else []
    )


def test_no_whole_example() -> None:
    source = twins(1)
    with pytest.raises(UserError, match="of no example could both pictures be read"):
        Winoground().result(embed_twins(source, 0, missing=(1,)), source)


# ARO


def aro_points(counts: dict[str, int], **settings: Any) -> dict[str, float]:
    """Of examples of some kinds; those of the first kind alone are right."""
    kinds = np.repeat(np.arange(len(counts)), list(counts.values()))
    samples = np.arange(len(kinds))
    source = Asked(Choices(samples, samples * 0, samples * 0 + 2, kinds, tuple(counts)), [2] * len(kinds))
    texts = np.array([[value] for kind in kinds for value in ((1, 0) if kind == 0 else (0, 1))], np.float32)
    ones = np.ones((len(kinds), 1), np.float32)
    return Aro(**settings).points(Embeddings(ones, texts, np.repeat(samples, 2), samples, []), source)


@pytest.mark.parametrize(
    ("counts", "settings", "mean"),
    [
        ({"on": 1, "holding": 3}, {}, 1 / 2),
        ({"on": 1, "holding": 3, "next to": 9}, {}, 1 / 2),
        ({"on": 1, "holding": 3, "next to": 9}, {"mean_over": "all"}, 1 / 3),
        ({"white_old": MIN_EXAMPLES, "red_new": MIN_EXAMPLES, "wet_dry": MIN_EXAMPLES - 1}, {}, 1 / 2),
        ({"order": 4}, {}, None),
        ({"white_old": 2, "wet_dry": 2}, {}, None),  # none has examples enough
    ],
)
def test_the_mean_is_over_what_the_published_one_counts(
    counts: dict[str, int], settings: dict[str, Any], mean: float | None
) -> None:
    first = next(iter(counts.values()))
    expected = {"accuracy": first / sum(counts.values()), **({} if mean is None else {"mean_accuracy": mean})}
    assert aro_points(counts, **settings) == pytest.approx(expected)


def test_relations_that_are_left_out() -> None:
    assert {"next to", "near", "beside"} <= relations_left_out()
    assert not {"on", "in", "to the left of", "behind", "under"} & relations_left_out()
    written = resources.files(tasks).joinpath("aro_left_out.txt").read_text(encoding="utf-8").splitlines()
    assert len(written) == len(set(written)) == 157
    # Compared name by name with `symmetric` of the published notebook, in a public copy of its script
    assert sha256("\n".join(written).encode()).hexdigest().startswith("f4653c4618cdad79")


# SugarCrepe's records


def write_sugarcrepe(folder: Path, sizes: dict[str, int]) -> str:
    """Files with gaps in their ids, whose pictures are shared between them."""
    (folder / "images").mkdir(parents=True)
    for number in range(6):
        (folder / "images" / f"{number:012d}.jpg").write_bytes(encode_picture(number, (40, 30)))
    for part, size in sizes.items():
        entries = {
            str(3 * number + 1): {
                "filename": f"{number % 6:012d}.jpg",
                "caption": f"picture {number} caption 1",
                "negative_caption": f"{part} {number} picture",
            }
            for number in range(size)
        }
        (folder / f"{part}.json").write_text(json.dumps(entries))
    return f"sugarcrepe:{folder},{folder / 'images'}"


def test_sugarcrepe_gives_a_record_for_each_of_the_seven_files_and_one_with_their_mean(tmp_path: Path) -> None:
    sizes = {part: number + 3 for number, part in enumerate(PARTS)}
    data = TaskData(open_source(write_sugarcrepe(tmp_path, sizes)), keeps_items=True)
    *parts, whole = measure_whole_and_parts(Sugarcrepe(), build_tiny_pretrained(), data)
    assert [result.split for result in parts] == list(PARTS)
    assert [result.metrics["num_examples"] for result in parts] == list(sizes.values())
    assert [result.num_images for result in parts] == [min(6, size) for size in sizes.values()]
    assert [result.num_captions for result in parts] == [2 * size for size in sizes.values()]
    for result in parts:
        own, same = result.metrics["accuracy"], whole.metrics[f"{result.split}_accuracy"]
        assert isinstance(own, Interval)
        assert isinstance(same, Interval)
        assert own.value == same.value  # of its interval, only the pictures of this file are drawn
        assert "mean_accuracy" not in result.metrics
        assert (result.task, result.dataset, result.model) == ("sugarcrepe", whole.dataset, whole.model)
    values = [value.value for result in parts if isinstance(value := result.metrics["accuracy"], Interval)]
    mean = whole.metrics["mean_accuracy"]
    assert isinstance(mean, Interval)
    assert mean.value == pytest.approx(np.mean(values))
    assert (whole.split, whole.metrics["num_examples"]) == ("all", sum(sizes.values()))


def test_a_single_file_and_one_with_a_lost_picture_are_told(tmp_path: Path) -> None:
    model = build_tiny_pretrained()
    (only,) = measure_whole_and_parts(
        Sugarcrepe(), model, TaskData(open_source(write_sugarcrepe(tmp_path / "one", {"add_att": 4})))
    )
    assert only.metrics["num_examples"] == 4
    source = open_source(write_sugarcrepe(tmp_path / "two", {"add_att": 2, "swap_obj": 6}))
    (tmp_path / "two" / "images" / f"{5:012d}.jpg").write_bytes(b"no picture")
    first, second, whole = measure_whole_and_parts(Sugarcrepe(), model, TaskData(source))
    lost = "1 examples left out, of which a picture cannot be read (1 broken items)"
    assert [lost in result.notes for result in (first, second, whole)] == [False, True, True]


# Any task, any source


def test_the_tasks_run_on_scenes_whose_truth_is_known() -> None:
    model, source = build_tiny_pretrained(), open_source("scenes:8,twinned=true,texts=choices,image_size=32")
    results = {kind: embedding_task(kind).run(model, TaskData(source)) for kind in TASKS}
    assert [result.metrics["num_examples"] for result in results.values()] == [6, 3, 6]
    assert results["sugarcrepe"].metrics["accuracy"] == results["aro"].metrics["accuracy"]
    for kind, result in results.items():
        task = embedding_task(kind)
        assert task.title(result).startswith(f"{task.heading} on all: 6 images, ")
        assert result.notes == ["2 pictures have no false caption, and nothing is asked of them"]  # of two equal groups
        assert len(task.rows(result)) == (3 if kind == "winoground" else 1)
        chance = task.chance(result)
        assert chance is not None


@pytest.mark.parametrize("kind", TASKS)
def test_answers_can_be_kept_and_give_the_scores_again(kind: str) -> None:
    source = twins(20)
    embeddings, task = embed_twins(source, 1), embedding_task(kind)
    answers = task.answers(embeddings, source)
    kept = {name: values.astype(np.int32) if values.dtype.kind == "i" else values for name, values in answers.items()}
    assert ratios(task.units(kept), task.means) == task.points(embeddings, source)
    assert all(values.dtype.kind != "O" for values in answers.values())


@pytest.mark.parametrize(
    ("kind", "source", "told"),
    [
        *((kind, "scenes:4", "has no false captions to tell .*scenes:COUNT,texts=choices") for kind in TASKS),
        ("winoground", "scenes:4,texts=choices", "its pictures are single; .*scenes:COUNT,twinned=true,texts=choices"),
        ("retrieval", "scenes:4,texts=choices", "some of its captions are false, .*--task sugarcrepe"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_what_does(kind: str, source: str, told: str) -> None:
    task: EmbeddingTask = embedding_task(kind)
    with pytest.raises(UserError, match=told):
        task.run(build_tiny_pretrained(), TaskData(open_source(source)))


def test_a_part_keeps_whole_examples() -> None:
    part = Subset(twins(4), numbers(7, 1, 0, 2, 6), "part")
    assert part.gives == {"choices"}
    assert part.choices is not None
    assert part.choices.samples.tolist() == [2, 1, 4, 0]  # samples 0, 1 and 6, 7; 2 lost its twin
    assert part.choices.twins
    alone = Subset(draw(0), numbers(5, 2), "part")
    assert alone.choices is not None
    assert set(alone.choices.samples.tolist()) <= {0, 1}
