"""Batches: what belongs to what."""

import pytest
import torch
from torch import Tensor, nn

from pocketclip.types import Evaluator, Features, ImageTextBatch, Objective


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


def test_a_plain_function_is_an_objective_and_an_evaluator() -> None:
    def objective(features: Features, batch: ImageTextBatch) -> dict[str, Tensor]:
        return {}

    def evaluate(model: nn.Module) -> dict[str, float]:
        return {}

    assert isinstance(objective, Objective)
    assert isinstance(evaluate, Evaluator)
