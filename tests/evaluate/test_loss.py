"""The mean validation loss against adding up by hand."""

import pytest
import torch
from torch import Tensor, nn

from pocketclip.evaluate.loss import mean_loss
from pocketclip.types import Features, ImageTextBatch


class Model(nn.Module):
    def forward(self, batch: ImageTextBatch) -> Features:
        return Features(batch.images, batch.tokens, torch.tensor(1.0), torch.tensor(0.0))


def objective(features: Features, batch: ImageTextBatch) -> dict[str, Tensor]:
    del batch
    return {"clip": features.image.sum(), "distill": 2 * features.text.sum()}


def batch_of(value: float) -> ImageTextBatch:
    numbers = torch.arange(2)
    filled = torch.full((2, 1), value)
    return ImageTextBatch(filled, filled, torch.zeros(2, 0, dtype=torch.bool), numbers, numbers)


def test_each_part_and_their_sum_are_averaged_over_batches() -> None:
    losses = mean_loss(Model(), objective, [batch_of(1.0), batch_of(4.0)])
    assert losses == {"val_clip": 5.0, "val_distill": 10.0, "val_loss": 15.0}


def test_no_batches_give_no_losses() -> None:
    assert mean_loss(Model(), objective, []) == {}


def test_nothing_is_kept_for_a_backward_pass() -> None:
    seen = []

    def watching(features: Features, batch: ImageTextBatch) -> dict[str, Tensor]:
        seen.append(torch.is_inference_mode_enabled())
        return objective(features, batch)

    mean_loss(Model(), watching, [batch_of(1.0)])
    assert seen == [True]


@pytest.mark.parametrize("count", [1, 3])
def test_equal_batches_give_the_loss_of_one(count: int) -> None:
    assert mean_loss(Model(), objective, [batch_of(2.0)] * count)["val_loss"] == pytest.approx(12.0)
