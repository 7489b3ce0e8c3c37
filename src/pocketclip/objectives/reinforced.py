"""Reinforced training: the student learns from an ensemble of teachers, on real and on synthetic captions."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat
from torch import Tensor

from pocketclip.config import Config
from pocketclip.objectives.contrastive import (
    ClipLossConfig,
    ContrastiveObjectiveConfig,
    LossConfig,
    contrastive_loss,
)
from pocketclip.objectives.teachers import caption_by_caption, check_scales, teacher_affinity, with_scales
from pocketclip.types import Features, ImageTextBatch


class ReinforcedObjectiveConfig(Config):
    """MobileCLIP's loss: (1 - lambda) CLIP + lambda affinity, on real plus on synthetic captions."""

    kind: Literal["reinforced"] = "reinforced"
    distill_weight: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Lambda. MobileCLIP takes 1 for its small models and 0.75 for the largest; 0 leaves CLIP on both captions."""
    teacher_scales: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] | None = None
    """Inverse temperature of each teacher, such as [70, 60]; None takes the teachers' own."""

    @property
    def pair_loss(self) -> LossConfig | None:
        """The loss over pairs; None where lambda leaves none."""
        return ClipLossConfig() if self.distill_weight < 1 else None

    @property
    def uses_teachers(self) -> bool:
        """Whether it reads what teachers made of a batch."""
        return self.distill_weight > 0

    @property
    def needs_teacher_captions(self) -> bool:
        """Whether its teachers have to know captions too."""
        return self.uses_teachers

    @property
    def validation(self) -> ContrastiveObjectiveConfig:
        """What is measured on a validation split, of which no teacher was asked."""
        return ContrastiveObjectiveConfig()

    def build(self, *, embed_dim: int | None = None, teacher_widths: Sequence[int] = ()) -> "ReinforcedObjective":
        """An objective for the training loop.

        Args:
            embed_dim: of the student; nothing here depends on it.
            teacher_widths: of each teacher.

        Raises:
            UserError: `teacher_scales` is not one for each.
        """
        del embed_dim
        check_scales(self.teacher_scales, len(teacher_widths))
        return ReinforcedObjective(self)


class ReinforcedObjective:
    """Affinity distillation and CLIP caption by caption; see `caption_by_caption`.

    Reference: MobileCLIP, https://arxiv.org/abs/2311.17049, section 3.2.
    """

    def __init__(self, config: ReinforcedObjectiveConfig) -> None:
        self.distill_weight = config.distill_weight
        self.scales = config.teacher_scales

    def __call__(self, features: Features, batch: ImageTextBatch) -> Mapping[str, Tensor]:
        """`clip` and `affinity`, and the same of the synthetic captions; a part of weight 0 is not computed."""
        losses: dict[str, Tensor] = {}
        if self.distill_weight < 1:
            for name, value in caption_by_caption("clip", _clip, features, batch).items():
                losses[name] = (1 - self.distill_weight) * value
        if self.distill_weight > 0:
            for name, value in caption_by_caption("affinity", self._affinity, features, batch).items():
                losses[name] = self.distill_weight * value
        return losses

    def _affinity(self, features: Features, batch: ImageTextBatch) -> Tensor:
        return teacher_affinity(features, batch, with_scales(batch.teachers, self.scales))


def _clip(features: Features, batch: ImageTextBatch) -> Tensor:
    return contrastive_loss(ClipLossConfig(), features, batch)
