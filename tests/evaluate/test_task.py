"""The tasks of the evaluate command on an untrained model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import Told
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data import open_source
from pocketclip.errors import UserError
from pocketclip.evaluate.gallery import with_captions
from pocketclip.evaluate.ranks import retrieval_ranks
from pocketclip.evaluate.tasks import (
    EmbeddingTask,
    Retrieval,
    TaskData,
    embedding_task,
    make_tasks,
    task_kinds,
    task_of,
)
from pocketclip.evaluate.tasks.fine_tuning import FineTuning
from pocketclip.evaluate.tasks.linear_probe import LinearProbe
from pocketclip.evaluate.tasks.nlvr2 import Nlvr2
from pocketclip.evaluate.tasks.retrieval import mean_recall, point_metrics
from pocketclip.features.encode import Embeddings
from pocketclip.records import EvalResult, Interval


def test_retrieval_equals_ranking_the_models_own_embeddings(tiny_pretrained: PretrainedModel) -> None:
    source = open_source("scenes:12,image_size=32")
    result = Retrieval().run(tiny_pretrained, TaskData(source))
    samples = [source[number] for number in range(12)]
    images = tiny_pretrained.encode_image([sample.image for sample in samples])
    texts = tiny_pretrained.encode_text([caption for sample in samples for caption in sample.captions])
    owners = np.repeat(np.arange(12), [len(sample.captions) for sample in samples])
    expected = point_metrics(retrieval_ranks(images, texts, owners))
    expected["mean_recall"] = mean_recall(expected)
    values = {name: getattr(metric, "value", metric) for name, metric in result.metrics.items()}
    assert values == pytest.approx(expected)


def test_the_record_says_what_was_measured(tiny_pretrained: PretrainedModel) -> None:
    source = open_source("scenes:12,image_size=32")
    result = Retrieval().run(tiny_pretrained, TaskData(source))
    assert (result.task, result.dataset, result.num_images, result.num_captions) == ("retrieval", source.name, 12, 24)
    assert isinstance(result.metrics["text_to_image_recall@1"], Interval)
    (note,) = result.notes
    assert note.startswith("a gallery of 12 pictures is small: text to image R@1 lies between ")


def test_images_without_a_caption_are_left_out_and_named(
    tiny_pretrained: PretrainedModel, make_folder: Callable[..., Path]
) -> None:
    folder = make_folder(count=6)
    for number in (0, 3):
        (folder / f"{number:03d}.txt").unlink()
    result = Retrieval().run(tiny_pretrained, TaskData(open_source(f"folder:{folder}")))
    assert (result.num_images, result.num_captions) == (4, 8)
    assert result.notes[:-1] == ["2 images without a caption left out"]


def test_a_picture_that_cannot_be_read_is_left_out_and_named(
    tiny_pretrained: PretrainedModel, make_folder: Callable[..., Path]
) -> None:
    folder = make_folder(count=6)
    (folder / "002.jpg").write_bytes(b"no picture")
    result = Retrieval().run(tiny_pretrained, TaskData(open_source(f"folder:{folder}")))
    assert (result.num_images, result.num_captions) == (5, 10)
    assert result.notes[:-1] == ["1 broken items left out"]


def test_leaving_images_out_keeps_each_caption_with_its_image() -> None:
    images = np.eye(4, dtype=np.float32)
    embeddings = Embeddings(images, images[[3, 1, 3]], np.array([3, 1, 3]), np.array([7, 8, 9, 10]), [])
    kept, num_dropped = with_captions(embeddings)
    assert num_dropped == 2
    assert kept.indices.tolist() == [8, 10]
    assert np.array_equal(kept.images[kept.text_images], kept.texts)


def test_progress_reaches_the_last_image(tiny_pretrained: PretrainedModel) -> None:
    seen: list[int] = []
    data = TaskData(open_source("scenes:5,image_size=32"))
    Retrieval().run(tiny_pretrained, data, Told(lambda *told: seen.append(told[1])))
    assert seen[-1] == 5


def test_an_unknown_task_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"Unknown task 'retreival'\. Did you mean 'retrieval'\?"):
        make_tasks(["retreival"], {})


def test_a_source_without_any_caption_is_an_error(
    tiny_pretrained: PretrainedModel, make_folder: Callable[..., Path]
) -> None:
    with pytest.raises(UserError, match=r"photos: no readable picture has a caption"):
        Retrieval().run(tiny_pretrained, TaskData(open_source(f"folder:{make_folder(count=3, captions=0)}")))


def test_tasks_that_are_asked_together_embed_the_source_once(tiny_pretrained: PretrainedModel) -> None:
    ends: list[int] = []
    data = TaskData(open_source("scenes:1000,image_size=32"))
    watch = Told(lambda name, done, total, _: ends.append(done) if done == total else None)
    tasks = make_tasks(["retrieval", "retrieval_1k_folds"], {})
    whole, folds = (task.run(tiny_pretrained, data, watch) for task in tasks)
    assert ends == [1000]
    assert whole.metrics == folds.metrics


def test_each_task_takes_its_own_of_the_settings() -> None:
    probe, tuning = make_tasks(["linear_probe", "fine_tuning"], {"seed": 3, "num_epochs": 1}, {"against_start": False})
    assert (probe, tuning) == (
        LinearProbe(seed=3, against_start=False),
        FineTuning(seed=3, num_epochs=1, against_start=False),
    )


@pytest.mark.parametrize(
    ("task", "settings", "reason"),
    [
        ("retrieval", {"num_epochs": 1}, "--set: has no effect on retrieval; it is for fine_tuning."),
        ("retrieval", {"a": 1}, "--set: has no effect on retrieval: unknown setting 'a'. Known: same_captions."),
        ("nlvr2", {"a": 1}, "--set: has no effect on nlvr2: no task has such a setting."),
        ("linear_probe", {"sed": 1}, r"has no effect on linear_probe: unknown setting 'sed'\. Did you mean 'seed'"),
        ("fine_tuning", {"num_epochs": -1}, r"--set: num_epochs: Input should be greater than 0 \(got -1\)"),
        ("fine_tuning", {"kind": "x"}, "has no effect on fine_tuning: unknown setting 'kind'"),
    ],
)
def test_a_setting_without_effect_is_an_error(task: str, settings: dict[str, object], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        make_tasks([task], settings)


def test_training_measures_with_tasks_over_embeddings_only() -> None:
    assert embedding_task("nlvr2") == Nlvr2()
    with pytest.raises(UserError, match="Unknown task over embeddings 'text_probe'"):
        embedding_task("text_probe")


def test_a_record_of_a_task_that_is_not_known_is_shown_all_the_same() -> None:
    half = Interval(value=0.5, low=0.4, high=0.6)
    metrics: dict[str, Interval | float] = {"zero_shot": half, "num_classes": 3.0}
    result = EvalResult(task="later", dataset="x", split="val", num_images=9, num_captions=8, metrics=metrics)
    task = task_of(result)
    assert (task.rows(result), task.counts(result)) == ([["zero shot", "50.0 [40.0, 60.0]"]], "9 images, 8 captions")


@pytest.mark.parametrize("kind", task_kinds())
def test_every_task_says_what_it_is_and_needs(kind: str) -> None:
    task = task_kinds()[kind]()
    assert task.kind == kind
    assert task.needs
    assert task.meaning
    assert len(task.columns) > 1
    assert (type(task).__doc__ or "").splitlines()[0].endswith(".")
    assert not isinstance(task, EmbeddingTask) or task.scores
