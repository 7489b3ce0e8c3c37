"""Distillation by any sum of named terms, from live teachers or from what reinforced data hold of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip import distributed
from pocketclip.config import Config
from pocketclip.losses import LossConfig
from pocketclip.losses.clip import ClipLossConfig
from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.losses.feature import feature_loss
from pocketclip.losses.gradient import gradient_loss
from pocketclip.losses.interactive import interactive_loss
from pocketclip.losses.large import large_interactive_loss
from pocketclip.objectives.contrastive import ContrastiveObjectiveConfig
from pocketclip.objectives.needs import Needs, Teachers
from pocketclip.objectives.teachers import (
    TaughtMethodConfig,
    TeacherScales,
    caption_by_caption,
    captions_of,
    check_scales,
    clamp_scales,
    learned_scales,
    teacher_affinity,
    with_scales,
)
from pocketclip.types import Features, ImageTextBatch, TeacherFeatures


@dataclass(frozen=True)
class Lesson:
    """What a term sees of one teacher beside the student's features."""

    teacher: TeacherFeatures
    embeddings: Callable[[], tuple[Tensor, Tensor]]
    """Makes the student's images and texts in the teacher's space, (B, W) of length 1."""
    scale: Tensor | None
    """The interactive term's own inverse temperature, already exponentiated; None without that term."""


class Term(Config):
    """Base of the members of `TermConfig`: a weighted part of the objective, a mean over teachers by default."""

    kind: str
    weight: PositiveFloat = 1.0
    in_the_teachers_width: ClassVar[bool] = False
    """Whether it compares embeddings themselves, so that maps are learned where widths differ."""
    scales_teachers: ClassVar[bool] = False
    """Whether the teachers' inverse temperatures have an effect."""

    def value(self, inputs: ContrastiveInputs, lessons: Sequence[Lesson]) -> Tensor:
        """The unweighted term of a batch of any size; of a rank's share, such that the mean over ranks is the batch's.

        The student has one text an image, and there is a lesson a teacher.
        """
        return torch.stack([self.of_teacher(inputs, lesson) for lesson in lessons]).mean()

    def of_teacher(self, inputs: ContrastiveInputs, lesson: Lesson) -> Tensor:
        """The term of one teacher."""
        raise NotImplementedError


class ContrastiveTermConfig(Term):
    """The student's own contrastive loss."""

    kind: Literal["contrastive"] = "contrastive"
    loss: LossConfig = ClipLossConfig()

    def value(self, inputs: ContrastiveInputs, lessons: Sequence[Lesson]) -> Tensor:
        return self.loss.value(inputs)


class AffinityTermConfig(Term):
    """TinyCLIP's affinity mimicking; several teachers are averaged after their softmax."""

    kind: Literal["affinity"] = "affinity"
    scales_teachers: ClassVar[bool] = True

    def value(self, inputs: ContrastiveInputs, lessons: Sequence[Lesson]) -> Tensor:
        return teacher_affinity(inputs, [lesson.teacher for lesson in lessons])


class FeatureTermConfig(Term):
    """Mean squared difference of embeddings; CLIP-KD gives it 2,000."""

    kind: Literal["feature"] = "feature"
    in_the_teachers_width: ClassVar[bool] = True

    def of_teacher(self, inputs: ContrastiveInputs, lesson: Lesson) -> Tensor:
        """A mean over rows, so a rank needs its own only."""
        loss = feature_loss(*lesson.embeddings(), lesson.teacher.image, captions_of(lesson.teacher))
        return loss * distributed.weight_of_share(len(inputs.image), inputs.shares)


class RelationalTermConfig(Term):
    """Divergence of the contrastive distributions, one teacher at a time."""

    kind: Literal["relational"] = "relational"
    scales_teachers: ClassVar[bool] = True

    def of_teacher(self, inputs: ContrastiveInputs, lesson: Lesson) -> Tensor:
        return teacher_affinity(inputs, [lesson.teacher])


class InteractiveTermConfig(Term):
    """Student images find the teacher's texts, and student texts its images, with a temperature of their own."""

    kind: Literal["interactive"] = "interactive"
    in_the_teachers_width: ClassVar[bool] = True

    def of_teacher(self, inputs: ContrastiveInputs, lesson: Lesson) -> Tensor:
        """A rank's students among the teacher's embeddings of all ranks."""
        assert lesson.scale is not None
        parts = *lesson.embeddings(), lesson.teacher.image, captions_of(lesson.teacher), lesson.scale
        return large_interactive_loss(*parts, inputs.shares) if inputs.are_large else interactive_loss(*parts)


class GradientTermConfig(Term):
    """Squared distance of the contrastive loss's gradients with respect to the embeddings."""

    kind: Literal["gradient"] = "gradient"
    in_the_teachers_width: ClassVar[bool] = True
    scales_teachers: ClassVar[bool] = True

    def of_teacher(self, inputs: ContrastiveInputs, lesson: Lesson) -> Tensor:
        """Every rank computes the loss of the whole batch: a pair's gradient needs all rows and all columns."""
        teacher = lesson.teacher
        parts = *lesson.embeddings(), teacher.image, captions_of(teacher)
        image, text, their_image, their_text = (distributed.gather(part, inputs.shares) for part in parts)
        return gradient_loss(image, text, inputs.logit_scale, their_image, their_text, teacher.scale)


TermConfig = Annotated[
    ContrastiveTermConfig
    | AffinityTermConfig
    | FeatureTermConfig
    | RelationalTermConfig
    | InteractiveTermConfig
    | GradientTermConfig,
    Field(discriminator="kind"),
]
"""The union of every term."""


class DistillationObjectiveConfig(TaughtMethodConfig):
    """Any sum of the terms of TinyCLIP and CLIP-KD."""

    kind: Literal["distillation"] = "distillation"
    may_ask: ClassVar[Teachers] = "captions"
    terms: tuple[TermConfig, ...] = Field(min_length=1)
    """Such as `[{kind: contrastive}, {kind: relational}, {kind: interactive}, {kind: feature, weight: 2000}]`."""
    teacher_scales: TeacherScales = None
    """Inverse temperature of each teacher, such as [50]; None takes the teachers' own."""

    @model_validator(mode="after")
    def _terms_make_sense(self) -> "DistillationObjectiveConfig":
        kinds = [term.kind for term in self.terms]
        if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
            raise ValueError(f"terms: {', '.join(twice)} is given twice; give each kind once, with its weight")
        if kinds == ["contrastive"]:
            raise ValueError("terms: contrastive alone asks no teacher; add a term, or use kind: contrastive")
        if self.teacher_scales is not None and not any(term.scales_teachers for term in self.terms):
            raise ValueError("teacher_scales has an effect with the terms affinity, relational and gradient only")
        return self

    @property
    def needs(self) -> Needs:
        """Teachers that know captions; a bias where the contrastive term has one."""
        loss = self._pair_loss
        return Needs(loss.kind if loss else self.kind, bias=loss is not None and loss.uses_bias, teachers="captions")

    @property
    def validation(self) -> ContrastiveObjectiveConfig:
        return ContrastiveObjectiveConfig(loss=self._pair_loss or ClipLossConfig())

    @property
    def _pair_loss(self) -> LossConfig | None:
        return next((term.loss for term in self.terms if isinstance(term, ContrastiveTermConfig)), None)

    def build(self, *, embed_dim: int | None = None, teacher_widths: Sequence[int] = ()) -> "DistillationObjective":
        check_scales(self.teacher_scales, len(teacher_widths))
        return DistillationObjective(self, embed_dim, teacher_widths)


class DistillationObjective(nn.Module):
    """Weighted terms, caption by caption (see `caption_by_caption`); each is a mean over the teachers.

    The terms that compare embeddings share a learned linear map into each teacher's space where widths differ; one for
    images and one for texts. References: TinyCLIP, https://arxiv.org/abs/2309.12314; CLIP-KD,
    https://arxiv.org/abs/2307.12732.
    """

    def __init__(self, config: DistillationObjectiveConfig, embed_dim: int | None, widths: Sequence[int]) -> None:
        super().__init__()
        self.terms = config.terms
        self.scales = config.teacher_scales
        self.image_maps, self.text_maps = nn.ModuleList(), nn.ModuleList()
        if any(term.in_the_teachers_width for term in self.terms):
            assert embed_dim is not None
            for width in widths:
                for maps in (self.image_maps, self.text_maps):
                    maps.append(nn.Identity() if width == embed_dim else nn.Linear(embed_dim, width, bias=False))
        interactive = any(isinstance(term, InteractiveTermConfig) for term in self.terms)
        self.log_scales = learned_scales(len(widths)) if interactive else None

    def forward(self, features: Features, batch: ImageTextBatch) -> Mapping[str, Tensor]:
        """Each term by its kind, and the same of the synthetic captions as `KIND_synthetic`."""
        assert batch.teachers, "the batch carries no teacher features"
        clamp_scales([] if self.log_scales is None else [self.log_scales])
        return {
            name: term.weight * value
            for term in self.terms
            for name, value in caption_by_caption(term.kind, partial(self._term, term), features, batch).items()
        }

    def _term(self, term: Term, features: Features, batch: ImageTextBatch) -> Tensor:
        inputs = ContrastiveInputs.of(features, batch)
        scales = [None] * len(batch.teachers) if self.log_scales is None else self.log_scales.exp()
        lessons = [
            Lesson(teacher, partial(self._in_width_of, number, inputs), scales[number])
            for number, teacher in enumerate(with_scales(batch.teachers, self.scales))
        ]
        return term.value(inputs, lessons)

    def _in_width_of(self, teacher: int, inputs: ContrastiveInputs) -> tuple[Tensor, Tensor]:
        """The student's embeddings in a teacher's space, of length 1."""
        image, text = inputs.unit
        return F.normalize(self.image_maps[teacher](image), dim=1), F.normalize(self.text_maps[teacher](text), dim=1)
