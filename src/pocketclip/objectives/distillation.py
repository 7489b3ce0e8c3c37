"""Distillation by any sum of named terms, from live teachers or from what reinforced data hold of them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip import distributed
from pocketclip.config import Config
from pocketclip.losses import feature_loss, gradient_loss, interactive_loss
from pocketclip.losses.interactive import tiled_interactive_loss
from pocketclip.objectives.contrastive import (
    ClipLossConfig,
    ContrastiveObjectiveConfig,
    LossConfig,
    contrastive_loss,
    in_tiles,
    unit_features,
)
from pocketclip.objectives.teachers import (
    MAX_SCALE,
    START_SCALE,
    caption_by_caption,
    captions_of,
    check_scales,
    own_part,
    teacher_affinity,
    with_scales,
)
from pocketclip.types import Features, ImageTextBatch, TeacherFeatures


class ContrastiveTermConfig(Config):
    """The student's own contrastive loss."""

    kind: Literal["contrastive"] = "contrastive"
    weight: PositiveFloat = 1.0
    loss: LossConfig = ClipLossConfig()


class AffinityTermConfig(Config):
    """TinyCLIP's affinity mimicking; several teachers are averaged after their softmax."""

    kind: Literal["affinity"] = "affinity"
    weight: PositiveFloat = 1.0


class FeatureTermConfig(Config):
    """Mean squared difference of embeddings; CLIP-KD gives it 2,000."""

    kind: Literal["feature"] = "feature"
    weight: PositiveFloat = 1.0


class RelationalTermConfig(Config):
    """Divergence of the contrastive distributions, one teacher at a time."""

    kind: Literal["relational"] = "relational"
    weight: PositiveFloat = 1.0


class InteractiveTermConfig(Config):
    """Student images find the teacher's texts, and student texts its images, with a temperature of their own."""

    kind: Literal["interactive"] = "interactive"
    weight: PositiveFloat = 1.0


class GradientTermConfig(Config):
    """Squared distance of the contrastive loss's gradients with respect to the embeddings."""

    kind: Literal["gradient"] = "gradient"
    weight: PositiveFloat = 1.0


TermConfig = Annotated[
    ContrastiveTermConfig
    | AffinityTermConfig
    | FeatureTermConfig
    | RelationalTermConfig
    | InteractiveTermConfig
    | GradientTermConfig,
    Field(discriminator="kind"),
]
IN_THE_TEACHERS_WIDTH = ("feature", "interactive", "gradient")
"""Terms that compare embeddings themselves."""


class DistillationObjectiveConfig(Config):
    """Any sum of the terms of TinyCLIP and CLIP-KD."""

    kind: Literal["distillation"] = "distillation"
    terms: tuple[TermConfig, ...] = Field(min_length=1)
    """Such as `[{kind: contrastive}, {kind: relational}, {kind: interactive}, {kind: feature, weight: 2000}]`."""
    teacher_scales: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] | None = None
    """Inverse temperature of each teacher, such as [50]; None takes the teachers' own."""

    @model_validator(mode="after")
    def _terms_make_sense(self) -> "DistillationObjectiveConfig":
        kinds = [term.kind for term in self.terms]
        twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
        if twice:
            raise ValueError(f"terms: {', '.join(twice)} is given twice; give each kind once, with its weight")
        if kinds == ["contrastive"]:
            raise ValueError("terms: contrastive alone asks no teacher; add a term, or use kind: contrastive")
        if self.teacher_scales is not None and not {"affinity", "relational", "gradient"} & set(kinds):
            raise ValueError("teacher_scales has an effect with the terms affinity, relational and gradient only")
        return self

    @property
    def pair_loss(self) -> LossConfig | None:
        """The loss over pairs; None where no term is contrastive."""
        return next((term.loss for term in self.terms if isinstance(term, ContrastiveTermConfig)), None)

    @property
    def uses_teachers(self) -> bool:
        """Whether it reads what teachers made of a batch."""
        return True

    @property
    def needs_teacher_captions(self) -> bool:
        """Whether its teachers have to know captions too."""
        return True

    @property
    def validation(self) -> ContrastiveObjectiveConfig:
        """What is measured on a validation split, of which no teacher was asked."""
        return ContrastiveObjectiveConfig(loss=self.pair_loss or ClipLossConfig())

    def build(self, *, embed_dim: int | None = None, teacher_widths: Sequence[int] = ()) -> "DistillationObjective":
        """An objective for the training loop.

        Args:
            embed_dim: of the student; needed for terms that compare embeddings themselves.
            teacher_widths: of each teacher.

        Raises:
            UserError: `teacher_scales` is not one for each.
        """
        check_scales(self.teacher_scales, len(teacher_widths))
        return DistillationObjective(self, embed_dim, teacher_widths)


class DistillationObjective(nn.Module):
    """Weighted terms, caption by caption (see `caption_by_caption`); each is a mean over the teachers.

    The terms that compare embeddings share a learned linear map into each teacher's space where widths differ; one for
    images and one for texts. References: TinyCLIP, https://arxiv.org/abs/2309.12314; CLIP-KD,
    https://arxiv.org/abs/2307.12732.

    Args:
        config: the terms.
        embed_dim: of the student.
        widths: of each teacher.
    """

    log_scales: nn.Parameter | None

    def __init__(self, config: DistillationObjectiveConfig, embed_dim: int | None, widths: Sequence[int]) -> None:
        super().__init__()
        self.terms = config.terms
        self.scales = config.teacher_scales
        kinds = {term.kind for term in self.terms}
        self.image_maps, self.text_maps = nn.ModuleList(), nn.ModuleList()
        if kinds & set(IN_THE_TEACHERS_WIDTH):
            assert embed_dim is not None
            for width in widths:
                for maps in (self.image_maps, self.text_maps):
                    same = width == embed_dim
                    maps.append(nn.Identity() if same else nn.Linear(embed_dim, width, bias=False))
        learned = nn.Parameter(torch.full((len(widths),), START_SCALE)) if "interactive" in kinds else None
        self.register_parameter("log_scales", learned)

    def forward(self, features: Features, batch: ImageTextBatch) -> Mapping[str, Tensor]:
        """Each term by its kind, and the same of the synthetic captions as `KIND_synthetic`."""
        assert batch.teachers, "the batch carries no teacher features"
        self._clamp_scales()
        losses: dict[str, Tensor] = {}
        for term in self.terms:

            def loss(features: Features, batch: ImageTextBatch, term: Any = term) -> Tensor:
                return self._term(term, features, batch)

            for name, value in caption_by_caption(term.kind, loss, features, batch).items():
                losses[name] = term.weight * value
        return losses

    @torch.no_grad()
    def _clamp_scales(self) -> None:
        """Keep the interactive term's inverse temperatures between 1 and 100, as CLIP does."""
        if self.log_scales is not None:
            self.log_scales.clamp_(0, MAX_SCALE)

    def _term(self, term: Any, features: Features, batch: ImageTextBatch) -> Tensor:
        if isinstance(term, ContrastiveTermConfig):
            return contrastive_loss(term.loss, features, batch)
        teachers = with_scales(batch.teachers, self.scales)
        if isinstance(term, AffinityTermConfig):
            return teacher_affinity(features, batch, teachers)
        if isinstance(term, RelationalTermConfig):
            return _mean([teacher_affinity(features, batch, [teacher]) for teacher in teachers])
        losses = []
        for number, teacher in enumerate(teachers):
            image, text = self._in_width_of(number, features)
            if isinstance(term, FeatureTermConfig):
                loss = feature_loss(image, text, teacher.image, captions_of(teacher)) * own_part(image, batch)
            elif isinstance(term, InteractiveTermConfig):
                assert self.log_scales is not None
                loss = _interactive(image, text, teacher, self.log_scales[number].exp(), batch)
            else:
                loss = _gradient(image, text, features.logit_scale, teacher, batch)
            losses.append(loss)
        return _mean(losses)

    def _in_width_of(self, teacher: int, features: Features) -> tuple[Tensor, Tensor]:
        """The student's embeddings in a teacher's space, of length 1."""
        image, text = unit_features(features)
        mapped = self.image_maps[teacher](image), self.text_maps[teacher](text)
        return F.normalize(mapped[0], dim=1), F.normalize(mapped[1], dim=1)


def term_kinds() -> dict[str, type[Config]]:
    """Every kind of term with its config class."""
    return {term.model_fields["kind"].default: term for term in get_args(get_args(TermConfig)[0])}


def _mean(losses: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(losses)).mean()


def _interactive(image: Tensor, text: Tensor, teacher: TeacherFeatures, scale: Tensor, batch: ImageTextBatch) -> Tensor:
    """This rank's students among all teachers' embeddings."""
    theirs = distributed.gather(teacher.image, batch.shares), distributed.gather(captions_of(teacher), batch.shares)
    first = sum(batch.shares[: distributed.rank()])
    interactive = tiled_interactive_loss if in_tiles(image, theirs[1]) else interactive_loss
    return interactive(image, text, *theirs, scale, first=first) * own_part(image, batch)


def _gradient(image: Tensor, text: Tensor, scale: Tensor, teacher: TeacherFeatures, batch: ImageTextBatch) -> Tensor:
    """Every rank computes the loss of the whole batch: a pair's gradient needs all rows and all columns."""
    parts = image, text, teacher.image, captions_of(teacher)
    image, text, teacher_image, teacher_text = (distributed.gather(part, batch.shares) for part in parts)
    return gradient_loss(image, text, scale, teacher_image, teacher_text, teacher.scale)
