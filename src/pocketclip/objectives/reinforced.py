"""Reinforced training: the student learns from an ensemble of teachers, on real and on synthetic captions."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.objectives.contrastive import clip_of
from pocketclip.objectives.teachers import caption_by_caption, teacher_affinity, with_scales
from pocketclip.types import Features, ImageTextBatch


def reinforced_losses(
    features: Features, batch: ImageTextBatch, distill_weight: float, teacher_scales: Sequence[float] | None
) -> Mapping[str, Tensor]:
    """`clip` and `affinity`, and the same of the synthetic captions; a part of weight 0 is not computed."""

    def affinity(features: Features, batch: ImageTextBatch) -> Tensor:
        return teacher_affinity(ContrastiveInputs.of(features, batch), with_scales(batch.teachers, teacher_scales))

    parts = (("clip", clip_of, 1 - distill_weight), ("affinity", affinity, distill_weight))
    return {
        name: weight * value
        for part, loss, weight in parts
        if weight > 0
        for name, value in caption_by_caption(part, loss, features, batch).items()
    }
