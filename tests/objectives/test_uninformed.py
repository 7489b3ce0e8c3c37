"""What a loss is of a model that knows nothing."""

import math
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from pocketclip.losses.sigmoid import sigmoid_loss
from pocketclip.objectives import ObjectiveConfig
from pocketclip.objectives.uninformed import uninformed_loss

S_SMKE = {"kind": "s_smke", "contrastive": ["hidden", "output"], "distill": {"kind": "none"}}
TERMS = [{"kind": "contrastive"}, {"kind": "relational"}]


def of(settings: dict[str, Any], num_images: int, captions: int = 1) -> float | None:
    config: Any = TypeAdapter(ObjectiveConfig).validate_python(settings)
    return uninformed_loss(config, num_images, captions)


@pytest.mark.parametrize(
    ("settings", "captions", "expected"),
    [
        ({"kind": "contrastive"}, 1, math.log(32)),
        ({"kind": "contrastive", "weight": 2.0}, 1, 2 * math.log(32)),
        ({"kind": "contrastive", "loss": {"kind": "clip", "label_smoothing": 0.1}}, 1, math.log(32)),
        ({"kind": "contrastive", "loss": {"kind": "multi_positive"}}, 1, math.log(32)),
        ({"kind": "contrastive", "loss": {"kind": "multi_positive"}}, 3, (math.log(32) + math.log(96)) / 2),
        ({"kind": "contrastive", "loss": {"kind": "soft_target"}}, 1, math.log(32)),
        (S_SMKE, 1, math.log(32)),
        ({"kind": "reinforced", "distill_weight": 0.0}, 1, math.log(32)),
        ({"kind": "pairs"}, 1, math.log(2)),
        ({"kind": "reinforced", "distill_weight": 0.5}, 1, None),
        ({"kind": "distillation", "terms": TERMS}, 1, None),
    ],
)
def test_it_is_the_logarithm_of_the_choices(settings: dict[str, Any], captions: int, expected: float | None) -> None:
    assert of(settings, 32, captions) == (None if expected is None else pytest.approx(expected, rel=1e-5))


def test_a_sigmoid_loss_has_the_bias_that_suits_best() -> None:
    same = torch.ones(32, 1)
    biases = torch.linspace(-12, 2, 1401)
    losses = [float(sigmoid_loss(same, same, torch.tensor(1.0), bias)) for bias in biases]
    nothing = of({"kind": "contrastive", "loss": {"kind": "sigmoid"}}, 32)
    assert nothing == pytest.approx(min(losses), abs=1e-3)
    assert nothing is not None
    assert nothing <= min(losses) + 1e-5


def test_a_single_pair_has_no_such_value() -> None:
    assert of({"kind": "contrastive"}, 1) is None
