"""A tower trained on with a classifier."""

import math

import pytest
import torch

from conftest import QuietWatch
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data import open_source
from pocketclip.errors import UserError
from pocketclip.evaluate.tasks import TaskData
from pocketclip.evaluate.tasks.fine_tuning import FineTuning
from pocketclip.objectives.classification import classification
from pocketclip.records import Interval
from pocketclip.types import Features, ImageTextBatch


def test_without_a_signal_the_loss_is_that_of_a_guess() -> None:
    logits, one = torch.zeros(6, 5), torch.ones(())
    ids = torch.arange(6)
    batch = ImageTextBatch(logits, ids[:, None], torch.ones(6, 1, dtype=torch.bool), ids, ids, labels=ids % 5)
    losses = classification(Features(logits, logits, one, one), batch)
    assert float(losses["cross_entropy"]) == pytest.approx(math.log(5))


def test_fine_tuning_learns_the_size_of_shapes_and_leaves_the_model_alone(tiny_pretrained: PretrainedModel) -> None:
    before = {name: value.clone() for name, value in tiny_pretrained.model.state_dict().items()}
    task = FineTuning(
        num_epochs=4, batch_size=16, learning_rate=3e-3, head_learning_rate=3e-2, num_workers=0, crop_scale=None
    )
    train, test = (open_source(f"scenes:96,classes=size,image_size=32,seed={seed}") for seed in (0, 1))
    result = task.run(tiny_pretrained, TaskData(test, train=train), QuietWatch())
    accuracy = result.metrics["top1_accuracy"]
    assert isinstance(accuracy, Interval)
    assert accuracy.low > 0.5
    assert result.task == "fine_tuning"
    assert all(torch.equal(value, before[name]) for name, value in tiny_pretrained.model.state_dict().items())


def test_images_without_classes_cannot_be_learned_from(tiny_pretrained: PretrainedModel) -> None:
    with pytest.raises(UserError, match="scenes:8: no image has a class"):
        FineTuning().run(
            tiny_pretrained, TaskData(open_source("scenes:8"), train=open_source("scenes:8")), QuietWatch()
        )
