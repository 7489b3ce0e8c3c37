"""The reinforced objective is the published sum."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pocketclip.errors import UserError
from pocketclip.losses.affinity import affinity_loss
from pocketclip.losses.clip import clip_loss
from pocketclip.objectives.config import ReinforcedObjectiveConfig
from pocketclip.types import Features, ImageTextBatch, Objective
from taught import make_taught


def build(**settings: object) -> Objective:
    return ReinforcedObjectiveConfig.parse(settings, place="test").build(embed_dim=5, teacher_widths=(5, 7))


def expected_parts(features: Features, batch: ImageTextBatch, number: int) -> tuple[Tensor, Tensor]:
    """CLIP and affinity of the caption with a number."""
    count = batch.captions_per_image
    image, text = F.normalize(features.image, dim=1), F.normalize(features.text, dim=1)[number::count]
    theirs = [t.image for t in batch.teachers], [t.text[number::count] for t in batch.teachers]
    affinity = affinity_loss(image, text, features.logit_scale, *theirs, [t.scale for t in batch.teachers])
    return clip_loss(image, text, features.logit_scale), affinity


@pytest.mark.parametrize("weight", [0.25, 0.75])
def test_it_is_the_weighted_sum_over_real_and_synthetic_captions(weight: float) -> None:
    features, batch = make_taught(4, captions=2, num_synthetic=1)
    losses = build(distill_weight=weight)(features, batch)
    for number, kind in enumerate(("", "_synthetic")):
        clip, affinity = expected_parts(features, batch, number)
        torch.testing.assert_close(losses[f"clip{kind}"], (1 - weight) * clip)
        torch.testing.assert_close(losses[f"affinity{kind}"], weight * affinity)
    assert len(losses) == 4


def test_several_captions_of_a_kind_are_averaged() -> None:
    features, batch = make_taught(4, captions=5, num_synthetic=2)
    losses = build()(features, batch)
    parts = [expected_parts(features, batch, number)[1] for number in range(5)]
    torch.testing.assert_close(losses["affinity"], torch.stack(parts[:3]).mean())
    torch.testing.assert_close(losses["affinity_synthetic"], torch.stack(parts[3:]).mean())


def test_a_part_without_weight_is_left_out(taught: tuple[Features, ImageTextBatch]) -> None:
    assert list(build(distill_weight=1)(*taught)) == ["affinity"]
    assert list(build(distill_weight=0)(*taught)) == ["clip"]
    assert ReinforcedObjectiveConfig(distill_weight=0).needs.asks_teachers is False
    assert ReinforcedObjectiveConfig().needs.loss == "reinforced"  # none over pairs


def test_other_temperatures_may_be_given(taught: tuple[Features, ImageTextBatch]) -> None:
    own, other = build()(*taught)["affinity"], build(teacher_scales=[70, 60])(*taught)["affinity"]
    assert float(own) != float(other)
    torch.testing.assert_close(build(teacher_scales=[30, 12])(*taught)["affinity"], own)
    with pytest.raises(UserError, match=r"3 value\(s\) for 2 teacher\(s\)"):
        build(teacher_scales=[1, 2, 3])


@pytest.mark.parametrize("weight", [-0.1, 1.5])
def test_a_weight_is_a_share(weight: float) -> None:
    with pytest.raises(UserError, match="distill_weight"):
        build(distill_weight=weight)


def test_a_validation_split_is_measured_without_teachers() -> None:
    assert ReinforcedObjectiveConfig().validation.loss.kind == "clip"
