"""Reinforced training: the student learns from an ensemble of teachers, on real and on synthetic captions."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.objectives.contrastive import clip_of
from pocketclip.objectives.needs import Needs, Teachers
from pocketclip.objectives.teachers import (
    TaughtMethodConfig,
    TeacherScales,
    caption_by_caption,
    check_scales,
    teacher_affinity,
    with_scales,
)
from pocketclip.types import Features, ImageTextBatch, Objective


class ReinforcedObjectiveConfig(TaughtMethodConfig):
    """MobileCLIP's loss: (1 - lambda) CLIP + lambda affinity, on real plus on synthetic captions, one by one.

    Reference: MobileCLIP, https://arxiv.org/abs/2311.17049, section 3.2.
    """

    kind: Literal["reinforced"] = "reinforced"
    may_ask: ClassVar[Teachers] = "captions"
    distill_weight: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Lambda. MobileCLIP takes 1 for its small models and 0.75 for the largest; 0 leaves CLIP on both captions."""
    teacher_scales: TeacherScales = None
    """Inverse temperature of each teacher, such as [70, 60]; None takes the teachers' own."""

    @property
    def needs(self) -> Needs:
        """Lambda decides whether teachers are asked, and whether a loss over pairs is left."""
        return Needs(
            "clip" if self.distill_weight < 1 else self.kind,
            teachers="captions" if self.distill_weight > 0 else "none",
            setting="" if self.distill_weight > 0 else "distill_weight 0",
        )

    def build(self, *, embed_dim: int | None = None, teacher_widths: Sequence[int] = ()) -> Objective:
        check_scales(self.teacher_scales, len(teacher_widths))
        return self.losses

    def losses(self, features: Features, batch: ImageTextBatch) -> Mapping[str, Tensor]:
        """`clip` and `affinity`, and the same of the synthetic captions; a part of weight 0 is not computed."""
        parts = (("clip", clip_of, 1 - self.distill_weight), ("affinity", self._affinity, self.distill_weight))
        return {
            name: weight * value
            for part, loss, weight in parts
            if weight > 0
            for name, value in caption_by_caption(part, loss, features, batch).items()
        }

    def _affinity(self, features: Features, batch: ImageTextBatch) -> Tensor:
        teachers = with_scales(batch.teachers, self.teacher_scales)
        return teacher_affinity(ContrastiveInputs.of(features, batch), teachers)
