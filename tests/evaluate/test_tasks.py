"""The tasks of the evaluate command on an untrained model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import Told
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data import open_source
from pocketclip.errors import UserError
from pocketclip.evaluate.retrieval import mean_recall, point_metrics, retrieval_ranks
from pocketclip.evaluate.tasks import run_task, with_captions
from pocketclip.features.encode import Embeddings
from pocketclip.records import Interval


def test_retrieval_equals_ranking_the_models_own_embeddings(tiny_pretrained: PretrainedModel) -> None:
    source = open_source("scenes:12,image_size=32")
    result = run_task("retrieval", tiny_pretrained, source)
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
    result = run_task("retrieval", tiny_pretrained, source)
    assert (result.task, result.dataset, result.num_images, result.num_captions) == ("retrieval", source.name, 12, 24)
    assert isinstance(result.metrics["text_to_image_recall@1"], Interval)
    assert result.notes == []


def test_images_without_a_caption_are_left_out_and_named(
    tiny_pretrained: PretrainedModel, make_folder: Callable[..., Path]
) -> None:
    folder = make_folder(count=6)
    for number in (0, 3):
        (folder / f"{number:03d}.txt").unlink()
    result = run_task("retrieval", tiny_pretrained, open_source(f"folder:{folder}"))
    assert (result.num_images, result.num_captions) == (4, 8)
    assert result.notes == ["2 images without a caption left out"]


def test_a_picture_that_cannot_be_read_is_left_out_and_named(
    tiny_pretrained: PretrainedModel, make_folder: Callable[..., Path]
) -> None:
    folder = make_folder(count=6)
    (folder / "002.jpg").write_bytes(b"no picture")
    result = run_task("retrieval", tiny_pretrained, open_source(f"folder:{folder}"))
    assert (result.num_images, result.num_captions) == (5, 10)
    assert result.notes == ["1 broken items left out"]


def test_leaving_images_out_keeps_each_caption_with_its_image() -> None:
    images = np.eye(4, dtype=np.float32)
    embeddings = Embeddings(images, images[[3, 1, 3]], np.array([3, 1, 3]), np.array([7, 8, 9, 10]), [])
    kept, num_dropped = with_captions(embeddings)
    assert num_dropped == 2
    assert kept.indices.tolist() == [8, 10]
    assert np.array_equal(kept.images[kept.text_images], kept.texts)


def test_progress_reaches_the_last_image(tiny_pretrained: PretrainedModel) -> None:
    seen: list[int] = []
    run_task(
        "retrieval", tiny_pretrained, open_source("scenes:5,image_size=32"), Told(lambda *told: seen.append(told[1]))
    )
    assert seen[-1] == 5


def test_an_unknown_task_names_the_known_ones(tiny_pretrained: PretrainedModel) -> None:
    with pytest.raises(UserError, match=r"Unknown task 'retreival'\. Did you mean 'retrieval'\?"):
        run_task("retreival", tiny_pretrained, open_source("scenes:5"))


def test_a_source_without_any_caption_is_an_error(
    tiny_pretrained: PretrainedModel, make_folder: Callable[..., Path]
) -> None:
    with pytest.raises(UserError, match=r"photos: no readable picture has a caption"):
        run_task("retrieval", tiny_pretrained, open_source(f"folder:{make_folder(count=3, captions=0)}"))
