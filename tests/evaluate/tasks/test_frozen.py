"""Nearest neighbours and few shots on drawn scenes: what is learned from, what is recorded, what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pocketclip.data import open_source
from pocketclip.embedder import Embedder
from pocketclip.errors import UserError
from pocketclip.evaluate.least_squares import Ridge, fit_ridge
from pocketclip.evaluate.task import TaskData, measure
from pocketclip.evaluate.tasks import few_shot as few_shot_task
from pocketclip.evaluate.tasks import make_tasks
from pocketclip.evaluate.tasks.few_shot import FewShot, drawn, name_of
from pocketclip.evaluate.tasks.knn import Knn
from pocketclip.evaluate.tasks.linear_probe import LinearProbe
from pocketclip.preprocess import PreprocessConfig
from pocketclip.records import EvalResult, Interval
from pocketclip.stages.watch import Watch

TRAIN, TEST = "scenes:120,classes=colour,image_size=32", "scenes:60,classes=colour,image_size=32,seed=1"


class AverageColour(Embedder):
    """Blind to all but colour; counts the pictures it saw."""

    name, embed_dim = "other:colour", 3
    preprocess = PreprocessConfig(image_size=32)
    num_seen = 0

    def encode_images(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.num_seen += len(pixels)
        vectors = 255.5 - pixels.reshape(len(pixels), -1, 3).mean(axis=1)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def encode_texts(self, tokens: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        raise NotImplementedError

    def made_from(self) -> dict[str, object]:
        return {}


class Broken(AverageColour):
    def encode_images(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return np.full((len(pixels), 3), np.nan, np.float32)


def given(train: str | None = TRAIN, test: str = TEST) -> TaskData:
    return TaskData(open_source(test), train=None if train is None else open_source(train))


def interval(result: EvalResult, name: str) -> Interval:
    metric = result.metrics[name]
    assert isinstance(metric, Interval)
    return metric


def painted(folder: Path, counts: dict[str, int]) -> str:
    """Pictures of one colour each, in a folder a class."""
    for place, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (32, 32), (250 * (place == 0), 250 * (place == 1), 10 * number)).save(
                folder / name / f"{number}.png"
            )
    return f"folder:{folder},classes=folders"


def test_neighbours_of_a_colour_have_it() -> None:
    result = Knn(k=5).run(AverageColour(), given())
    assert interval(result, "top1_accuracy").low > 1 / 8
    assert interval(result, "top5_accuracy").value >= interval(result, "top1_accuracy").value
    assert {"top1_accuracy_plain_vote", "mean_class_accuracy", "chance", "commonest_class_accuracy"} <= set(
        result.metrics
    )
    assert (result.num_images, result.metrics["num_training_examples"], result.metrics["k"]) == (60, 120, 5)
    assert sum(own.num_images for own in result.classes) == 60
    assert result.notes == []


def test_a_vote_of_one_is_the_nearest_training_image() -> None:
    model, data = AverageColour(), given()
    result = Knn(k=1).run(model, data)
    train, test = data.embedded_parts(model, Watch())
    nearest = train.indices[(test.images @ train.images.T).argmax(axis=1)]
    hits = [data.images[0].label(int(own)) == data.images[1].label(n) for n, own in enumerate(nearest)]
    assert interval(result, "top1_accuracy").value == pytest.approx(np.mean(hits))
    assert interval(result, "top1_accuracy_plain_vote").value == pytest.approx(np.mean(hits))


def test_more_neighbours_than_images_is_an_error_whose_line_works(tmp_path: Path) -> None:
    data = given(
        painted(tmp_path / "train", {"red": 3, "green": 3}), painted(tmp_path / "test", {"red": 2, "green": 2})
    )
    with pytest.raises(UserError, match=r"has 6 training images with a class, and 20 should vote.*--set k=6") as error:
        Knn().run(AverageColour(), data)
    (task,) = make_tasks(["knn"], {"k": int(str(error.value).rstrip(".").rsplit("=", 1)[1])})
    assert interval(task.run(AverageColour(), data), "top1_accuracy").value == 1


def test_images_are_embedded_once_for_all_tasks() -> None:
    for train, seen in ((TRAIN, 180), (None, 60)):
        model, data = AverageColour(), given(train)
        for task in (Knn(k=5), FewShot(shots=(1,), num_draws=2)):
            task.run(model, data)
        assert model.num_seen == seen


def test_of_a_single_source_the_parts_are_those_of_the_hold_out() -> None:
    model, data = AverageColour(), given(None)
    for part, embedded in zip(data.images, data.embedded_parts(model, Watch()), strict=True):
        assert embedded.indices.tolist() == list(range(len(part)))
        assert embedded.images == pytest.approx(model.encode_image([part[n].image for n in range(len(part))]))


def test_shots_are_exact_and_of_the_training_part_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[Any] = []

    def noted(rows: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], num_classes: int) -> Ridge:
        fitted.append((rows, labels))
        return fit_ridge(rows, labels, num_classes)

    monkeypatch.setattr(few_shot_task, "fit_ridge", noted)
    model, data = AverageColour(), given()
    FewShot(shots=(1, 3), num_draws=4).run(model, data)
    pool = {row.tobytes() for row in data.embedded_parts(model, Watch())[0].images}
    assert [len(rows) for rows, _ in fitted] == [8, 24] * 4
    for rows, labels in fitted:
        assert (np.bincount(labels) == len(labels) // 8).all()
        assert {row.tobytes() for row in rows} <= pool


def test_the_seed_changes_the_draw_and_nothing_else_does() -> None:
    labels = np.repeat(np.arange(3), [20, 30, 9])
    first = drawn(labels, 4, [0, 0])
    assert (labels[first] == np.arange(3)[:, None]).all()
    assert all(len(set(row)) == 4 for row in first.tolist())
    assert (first == drawn(labels, 4, [0, 0])).all()
    assert (first[:, :2] == drawn(labels, 2, [0, 0])).all()  # fewer shots are the first of more
    assert (first != drawn(labels, 4, [0, 1])).any()
    assert (first != drawn(labels, 4, [1, 0])).any()
    results = [FewShot(shots=(1,), seed=seed).run(AverageColour(), given()).metrics for seed in (0, 0, 1)]
    assert results[0] == results[1] != results[2]


def test_the_interval_holds_images_and_draws() -> None:
    several, one = (FewShot(shots=(2,), num_draws=draws).run(AverageColour(), given()) for draws in (5, 1))
    score, alone = interval(several, name_of(2)), interval(one, name_of(2))
    assert score.low < score.value < score.high
    assert alone.low < alone.value < alone.high  # of one draw: of the images only
    assert several.metrics["num_draws"] == 5


def test_more_shots_are_better_and_ascend() -> None:
    (task,) = make_tasks(["few_shot"], {"shots": "8,1,8"})
    result = task.run(AverageColour(), given())
    assert [name for name in result.metrics if name.endswith("_shot")] == [name_of(1), name_of(8)]
    assert interval(result, name_of(8)).value > interval(result, name_of(1)).value > 1 / 8
    assert [row[0] for row in task.rows(result)] == ["1", "8", "guessing", "always the commonest class"]


def test_small_classes_are_named_and_left_out_of_both_parts(tmp_path: Path) -> None:
    train = painted(tmp_path / "train", {"red": 5, "green": 6, "blue": 2})
    test = painted(tmp_path / "test", {"red": 3, "green": 3, "blue": 4})
    result = FewShot(shots=(1, 5), num_draws=2).run(AverageColour(), given(train, test))
    assert (result.num_images, result.metrics["num_classes"], result.metrics["chance"]) == (6, 2, 0.5)
    assert result.notes == [
        "1 class(es) with fewer than 5 training images left out, and 4 test images of them: blue (2)"
    ]


def test_too_few_images_of_all_classes_is_an_error_whose_line_works(tmp_path: Path) -> None:
    train = painted(tmp_path / "train", {"red": 9, "green": 4, "blue": 2})
    data = given(train, painted(tmp_path / "test", {"red": 3, "green": 3}))
    with pytest.raises(UserError, match=r"fewer than two classes have 16 training images.*--set shots=1,2,4") as error:
        FewShot().run(AverageColour(), data)
    (task,) = make_tasks(["few_shot"], {"shots": str(error.value).rsplit("=", 1)[1]})
    assert task.run(AverageColour(), data).metrics["num_classes"] == 2


@pytest.mark.parametrize("task", [Knn(k=2), FewShot(shots=(1,))])
def test_embeddings_that_are_not_finite_are_an_error(task: Knn | FewShot) -> None:
    with pytest.raises(UserError, match=r"other:colour: gave .* not finite"):
        task.run(Broken(), given())


def test_pictures_in_both_parts_are_told(tmp_path: Path) -> None:
    place = painted(tmp_path / "train", {"red": 3, "green": 3})
    result = measure(Knn(k=2), AverageColour(), given(place, place))
    assert "6 of 6 test pictures are in the training data, too" in result.notes


@pytest.mark.parametrize("value", ["0", "1,x", "", 0])
def test_shots_that_are_no_numbers_are_refused(value: object) -> None:
    with pytest.raises(UserError, match="shots"):
        make_tasks(["few_shot"], {"shots": value})


@pytest.mark.parametrize(
    ("task", "scores"),
    [
        (Knn(k=5), {"top1_accuracy", "top5_accuracy", "mean_class_accuracy", "top1_accuracy_plain_vote"}),
        (FewShot(shots=(1, 2), num_draws=3), {"top1_accuracy_1_shot", "top1_accuracy_2_shot"}),
    ],
)
def test_the_mean_of_kept_items_is_the_score(task: Knn | FewShot, scores: set[str]) -> None:
    data = TaskData(open_source(TEST), train=open_source(TRAIN), keeps_items=True)
    result = task.run(AverageColour(), data)
    assert data.items is not None
    answers, ids = data.items
    assert set(answers) == scores
    assert len(set(ids.tolist())) == 60
    for name, shares in answers.items():
        assert shares.mean() == pytest.approx(interval(result, name).value)


@pytest.mark.parametrize(
    ("task", "score"),
    [
        (Knn(k=1), "top1_accuracy"),
        (FewShot(shots=(4,)), "top1_accuracy_4_shot"),
        (LinearProbe(), "top1_accuracy_embedding"),
    ],
)
def test_a_test_set_of_fewer_classes_is_answered_with_those(
    task: Knn | FewShot | LinearProbe, score: str, tmp_path: Path
) -> None:
    """Red pictures under the name of green ones: right only where red is no answer."""
    train = painted(tmp_path / "train", {"red": 6, "green": 6, "blue": 6})
    (tmp_path / "test").mkdir()
    Path(painted(tmp_path / "other", {"red": 3}).removeprefix("folder:").partition(",")[0], "red").rename(
        tmp_path / "test" / "green"
    )
    place = f"folder:{tmp_path / 'test'},classes=folders"
    alone = task.run(AverageColour(), given(train, place))
    assert interval(alone, score).value == 1
    assert (alone.metrics["num_candidates"], alone.metrics["num_classes"]) == (1, 3)
    assert "of 1 of 3 classes, which alone are answers" in task.title(alone)
    (tmp_path / "test" / "red").mkdir()
    Image.new("RGB", (32, 32), (250, 0, 0)).save(tmp_path / "test" / "red" / "a.png")
    two = task.run(AverageColour(), given(train, place))
    assert interval(two, score).value == 0.25
    assert two.metrics["num_candidates"] == 2


def test_a_test_set_of_all_classes_says_nothing_of_candidates() -> None:
    result = Knn(k=1).run(AverageColour(), given())
    assert "num_candidates" not in result.metrics
    assert "which alone are answers" not in Knn().title(result)


@pytest.mark.parametrize(
    ("task", "score"),
    [
        (Knn(k=1), "top1_accuracy"),
        (FewShot(shots=(4,)), name_of(4)),
        (LinearProbe(), "top1_accuracy_embedding"),
    ],
)
def test_the_gap_to_images_like_those_learned_from(
    task: Knn | FewShot | LinearProbe, score: str, tmp_path: Path
) -> None:
    train = painted(tmp_path / "train", {"red": 6, "green": 6, "blue": 6})
    same, test = painted(tmp_path / "same", {"red": 4, "green": 3, "blue": 2}), tmp_path / "test"
    for name, colour in (("red", (250, 0, 0)), ("green", (250, 0, 0))):  # half of them look like the other class
        (test / name).mkdir(parents=True)
        Image.new("RGB", (32, 32), colour).save(test / name / "a.png")
    asked = task.model_copy(update={"in_distribution": same})
    result = asked.run(AverageColour(), given(train, f"folder:{test},classes=folders"))
    assert interval(result, f"{score}_in_distribution").value == 1  # blue is no answer, and none is asked about
    assert interval(result, score).value == 0.5
    gap = interval(result, f"{score}_gap")
    assert (gap.value, gap.low, gap.high) == (-0.5, -1, 0)
    plain = task.run(AverageColour(), given(train, f"folder:{test},classes=folders"))
    assert {name: value for name, value in result.metrics.items() if name in plain.metrics} == plain.metrics
    assert len(asked.rows(result)) == len(task.rows(plain)) + 2


def test_images_in_distribution_without_a_tested_class_are_an_error(tmp_path: Path) -> None:
    train = painted(tmp_path / "train", {"red": 3, "green": 3, "blue": 3})
    test, same = painted(tmp_path / "test", {"red": 2}), painted(tmp_path / "same", {"blue": 2})
    with pytest.raises(UserError, match=r"--set in_distribution=.*: no image is of a class that is tested"):
        Knn(k=1, in_distribution=same).run(AverageColour(), given(train, test))
