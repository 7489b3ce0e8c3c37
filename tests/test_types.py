"""Batches: what belongs to what."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pocketclip.types import Features, ImageTextBatch, Objective, TeacherFeatures, TeacherInputs


def make_batch(num_images: int, captions: int) -> ImageTextBatch:
    num_texts = num_images * captions
    return ImageTextBatch(
        images=torch.arange(num_images)[:, None].float(),
        tokens=torch.arange(num_texts)[:, None],
        token_mask=torch.ones(num_texts, 1, dtype=torch.bool),
        image_ids=torch.arange(num_images) + 100,
        caption_ids=torch.arange(num_texts) + 500,
        broken=["x: empty"],
    )


@pytest.mark.parametrize(("num_images", "captions"), [(4, 1), (3, 5)])
def test_a_batch_counts_its_images_and_the_captions_of_each(num_images: int, captions: int) -> None:
    batch = make_batch(num_images, captions)
    assert (len(batch), batch.captions_per_image) == (num_images, captions)


def test_an_empty_batch_has_no_captions() -> None:
    assert make_batch(0, 3).captions_per_image == 0


def test_a_part_of_a_batch_keeps_the_captions_of_its_images() -> None:
    part = make_batch(4, 3).pairs(1, 3)
    assert part.images[:, 0].tolist() == [1, 2]
    assert part.tokens[:, 0].tolist() == [3, 4, 5, 6, 7, 8]
    assert part.image_ids.tolist() == [101, 102]
    assert part.caption_ids.tolist() == [503, 504, 505, 506, 507, 508]
    assert (len(part.token_mask), part.captions_per_image) == (6, 3)


def test_parts_cover_the_batch() -> None:
    batch = make_batch(5, 2)
    parts = [batch.pairs(start, start + 2) for start in (0, 2, 4)]
    assert torch.equal(torch.cat([part.tokens for part in parts]), batch.tokens)
    assert torch.equal(torch.cat([part.images for part in parts]), batch.images)


def test_moving_a_batch_moves_every_tensor_and_keeps_the_messages() -> None:
    moved = make_batch(2, 2).to(torch.device("meta"))
    names = ("images", "tokens", "token_mask", "image_ids", "caption_ids")
    assert {getattr(moved, name).device.type for name in names} == {"meta"}
    assert moved.broken == ["x: empty"]


def test_a_plain_function_is_an_objective() -> None:
    def objective(features: Features, batch: ImageTextBatch) -> dict[str, Tensor]:
        return {}

    assert isinstance(objective, Objective)


def taught(num_images: int, captions: int) -> ImageTextBatch:
    """A batch with one teacher, live and asked, and a synthetic caption for each image."""
    texts = num_images * captions
    inputs = TeacherInputs(
        torch.zeros(num_images, 3, 4, 4, dtype=torch.uint8), torch.ones(texts, 2).long(), torch.ones(texts, 2).bool()
    )
    features = TeacherFeatures(torch.arange(num_images)[:, None].float(), torch.arange(texts)[:, None].float(), 50.0)
    return replace(make_batch(num_images, captions), teachers=(features,), teacher_inputs=(inputs,), num_synthetic=1)


def test_one_caption_of_each_image_is_a_batch_of_pairs() -> None:
    batch = taught(2, 3)
    slots = [batch.with_caption(number) for number in range(3)]
    assert [slot.tokens[:, 0].tolist() for slot in slots] == [[0, 3], [1, 4], [2, 5]]
    assert [slot.caption_ids.tolist() for slot in slots] == [[500, 503], [501, 504], [502, 505]]
    assert [slot.teachers[0].text[:, 0].tolist() for slot in slots] == [[0, 3], [1, 4], [2, 5]]
    assert [slot.num_synthetic for slot in slots] == [0, 0, 1]
    assert all(slot.captions_per_image == 1 and len(slot.token_mask) == 2 for slot in slots)
    features = Features(batch.images, batch.tokens.float(), torch.tensor(1.0), torch.tensor(0.0))
    assert features.with_caption(1, 3).text[:, 0].tolist() == [1, 4]


def test_moving_a_batch_moves_its_teachers_and_parts_leave_them_out() -> None:
    moved = taught(2, 3).to(torch.device("meta"))
    tensors = [value for one in (*moved.teachers, *moved.teacher_inputs) for value in vars(one).values()]
    assert {value.device.type for value in tensors if isinstance(value, Tensor)} == {"meta"}
    assert (moved.teachers[0].scale, moved.num_synthetic) == (50.0, 1)
    part = moved.pairs(0, 1)
    assert (part.teachers, part.teacher_inputs) == ((), ())
