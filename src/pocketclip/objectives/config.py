"""Settings of every method, each with what it needs, without torch: what computes is imported when it computes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, model_validator

from pocketclip.errors import UserError
from pocketclip.losses import LossConfig
from pocketclip.losses.config import ClipLossConfig
from pocketclip.objectives.needs import MethodConfig, Needs, Teachers
from pocketclip.objectives.person_terms import MaskedLanguageTermConfig, PersonSizes, PersonTerm, PersonTermConfig
from pocketclip.objectives.terms import ContrastiveTermConfig, DistillConfig, Layer, SimclrConfig, TermConfig

if TYPE_CHECKING:
    from torch import Tensor

    from pocketclip.objectives.distillation import DistillationObjective
    from pocketclip.objectives.person import PersonObjective
    from pocketclip.objectives.s_smke import SSmkeObjective
    from pocketclip.types import Features, ImageTextBatch, Objective

TeacherScales = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] | None
"""Inverse temperature of each teacher; None takes the teachers' own."""


class ContrastiveObjectiveConfig(MethodConfig):
    """One loss over all pairs of a batch, without teachers; with `simclr` beside it, SLIP."""

    kind: Literal["contrastive"] = "contrastive"
    loss: LossConfig = ClipLossConfig()
    weight: PositiveFloat = 1.0
    simclr: SimclrConfig | None = Field(default=None, exclude_if=lambda value: value is None)
    """Compare two further views of each image, too."""

    @property
    def needs(self) -> Needs:
        captions: Literal["any", "one"] = "any" if self.loss.takes_several_captions else "one"
        views = 1 if self.simclr is None else 3
        return Needs(self.loss.kind, captions=captions, bias=self.loss.uses_bias, views=views)

    @property
    def validation(self) -> "ContrastiveObjectiveConfig":
        """The loss over pairs alone: a validation split has no further views."""
        return self if self.simclr is None else self.model_copy(update={"simclr": None})

    def build(
        self, *, embed_dim: int | None = None, teacher_widths: Sequence[int] = (), feature_dim: int | None = None
    ) -> "Objective":
        if self.simclr is None:
            return self.losses
        from pocketclip.objectives.simclr import WithSimclr

        assert feature_dim is not None
        return WithSimclr(self.losses, feature_dim=feature_dim, **dict(self.simclr))

    def losses(self, features: "Features", batch: "ImageTextBatch") -> "Mapping[str, Tensor]":
        """The loss over pairs, weighted, by its name."""
        from pocketclip.objectives.contrastive import contrastive_loss

        return {self.loss.kind: self.weight * contrastive_loss(self.loss, features, batch)}


class TaughtMethodConfig(MethodConfig):
    """Base of the methods that learn from teachers."""

    @property
    def validation(self) -> ContrastiveObjectiveConfig:
        return ContrastiveObjectiveConfig()


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

    def build(
        self, *, embed_dim: int | None = None, teacher_widths: Sequence[int] = (), feature_dim: int | None = None
    ) -> "Objective":
        from pocketclip.objectives.teachers import check_scales

        check_scales(self.teacher_scales, len(teacher_widths))
        return self.losses

    def losses(self, features: "Features", batch: "ImageTextBatch") -> "Mapping[str, Tensor]":
        """`clip` and `affinity`, and the same of the synthetic captions; a part of weight 0 is not computed."""
        from pocketclip.objectives.reinforced import reinforced_losses

        return reinforced_losses(features, batch, self.distill_weight, self.teacher_scales)


class SummedTermsConfig(TaughtMethodConfig):
    """Base of the methods that are any sum of named, weighted terms, each at most once."""

    may_ask: ClassVar[Teachers] = "captions"
    not_alone: ClassVar[Mapping[str, str]] = {}
    """Terms that do not go without another one, and what to do."""
    terms: tuple[TermConfig | PersonTermConfig, ...]
    teacher_scales: TeacherScales = None
    """Inverse temperature of each teacher, such as [50]; None takes the teachers' own."""

    @model_validator(mode="after")
    def _terms_make_sense(self) -> "SummedTermsConfig":
        kinds = [term.kind for term in self.terms]
        if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
            raise ValueError(f"terms: {', '.join(twice)} is given twice; give each kind once, with its weight")
        if len(kinds) == 1 and kinds[0] in self.not_alone:
            raise ValueError(f"terms: {kinds[0]} alone {self.not_alone[kinds[0]]}")
        if self.teacher_scales is not None and not any(getattr(term, "scales_teachers", False) for term in self.terms):
            raise ValueError("teacher_scales has an effect with the terms affinity, relational and gradient only")
        return self

    @property
    def validation(self) -> ContrastiveObjectiveConfig:
        return ContrastiveObjectiveConfig(loss=self._pair_loss or ClipLossConfig())

    @property
    def _pair_loss(self) -> LossConfig | None:
        return next((term.loss for term in self.terms if isinstance(term, ContrastiveTermConfig)), None)


class DistillationObjectiveConfig(SummedTermsConfig):
    """Any sum of the terms of TinyCLIP and CLIP-KD."""

    kind: Literal["distillation"] = "distillation"
    not_alone: ClassVar[Mapping[str, str]] = {"contrastive": "asks no teacher; add a term, or use kind: contrastive"}
    terms: tuple[TermConfig, ...] = Field(min_length=1)
    """Such as `[{kind: contrastive}, {kind: relational}, {kind: interactive}, {kind: feature, weight: 2000}]`."""

    @property
    def needs(self) -> Needs:
        """Teachers that know captions; a bias where the contrastive term has one."""
        loss = self._pair_loss
        return Needs(loss.kind if loss else self.kind, bias=loss is not None and loss.uses_bias, teachers="captions")

    def build(
        self, *, embed_dim: int | None = None, teacher_widths: Sequence[int] = (), feature_dim: int | None = None
    ) -> "DistillationObjective":
        from pocketclip.objectives.distillation import DistillationObjective
        from pocketclip.objectives.teachers import check_scales

        check_scales(self.teacher_scales, len(teacher_widths))
        return DistillationObjective(self.terms, self.teacher_scales, embed_dim, teacher_widths)


class SSmkeObjectiveConfig(TaughtMethodConfig):
    """The loss of S-SMKE, of its ancestors and of each step between them."""

    kind: Literal["s_smke"] = "s_smke"
    may_ask: ClassVar[Teachers] = "images"
    contrastive: Annotated[tuple[Layer, ...], Field(min_length=1)] = ("hidden", "output")
    """Layers that carry CLIP's loss, of which the mean is taken: the last hidden layer of the shared encoder, its
    output, which is the embedding, and the head in the teacher's width."""
    distill: DistillConfig

    @model_validator(mode="after")
    def _layers_make_sense(self) -> "SSmkeObjectiveConfig":
        if twice := sorted({layer for layer in self.contrastive if self.contrastive.count(layer) > 1}):
            raise ValueError(f"contrastive: {', '.join(twice)} is given twice")
        if "teacher_head" in self.contrastive and self.distill.kind == "none":
            raise ValueError("contrastive: teacher_head is there with a teacher only; leave it out with distill: none")
        return self

    @property
    def needs(self) -> Needs:
        teachers: dict[str, Teachers] = {"none": "none", "logits": "classes"}
        return Needs(
            "clip",
            teachers=teachers.get(self.distill.kind, "images"),
            setting=f"distill.kind {self.distill.kind}",
            hidden_layer="contrastive" if "hidden" in self.contrastive else "",
            queue=("distill.queue_size", self.distill.queue_size) if self.distill.queue_size else None,
        )

    def build(
        self, *, embed_dim: int | None = None, teacher_widths: Sequence[int] = (), feature_dim: int | None = None
    ) -> "SSmkeObjective":
        if len(teacher_widths) > 1:
            raise UserError(
                f"objective.kind s_smke: learns from one teacher (got {len(teacher_widths)}); name one in teachers, or "
                "choose one with data.train.teachers where the data are reinforced."
            )
        from pocketclip.objectives.s_smke import SSmkeObjective

        return SSmkeObjective(self.contrastive, self.distill, embed_dim, teacher_widths[0] if teacher_widths else None)


class PersonObjectiveConfig(SummedTermsConfig):
    """Any sum of terms for finding a person by a description, whose pictures and texts say who is meant.

    The terms of distillation go with them. `contrastive` alone, InfoNCE, is what papers call the baseline.
    """

    kind: Literal["person"] = "person"
    not_alone: ClassVar[Mapping[str, str]] = {"masked_language": "trains no embedding; add contrastive or sdm"}
    terms: tuple[PersonTermConfig, ...] = Field(min_length=1)
    """Such as `[{kind: contrastive}, {kind: sdm}, {kind: identity}]`."""

    @property
    def needs(self) -> Needs:
        """Identities of all splits; teachers with terms of distillation; hidden words with one of its own."""
        loss, words = self._pair_loss, [term for term in self.terms if isinstance(term, MaskedLanguageTermConfig)]
        taught = any(not isinstance(term, PersonTerm | ContrastiveTermConfig) for term in self.terms)
        return Needs(
            loss.kind if loss else self.kind,
            bias=loss is not None and loss.uses_bias,
            teachers="captions" if taught else "none",
            setting="" if taught else "terms that ask none",
            identities=True,
            mask_rate=words[0].mask_rate if words else 0.0,
            uncached="the words of a text one by one" if words else "",
            task="person_retrieval",
        )

    def build(
        self,
        *,
        embed_dim: int | None = None,
        teacher_widths: Sequence[int] = (),
        feature_dim: int | None = None,
        sizes: PersonSizes | None = None,
    ) -> "PersonObjective":
        from pocketclip.objectives.person import PersonObjective
        from pocketclip.objectives.teachers import check_scales

        check_scales(self.teacher_scales, len(teacher_widths))
        assert embed_dim is not None
        return PersonObjective(self.terms, self.teacher_scales, embed_dim, teacher_widths, sizes or PersonSizes())


class PairsObjectiveConfig(MethodConfig):
    """Cross-entropy of true and false over pairs of images, as for NLVR2; needs `model.pair_head`.

    The mean over a batch's examples; over all ranks' examples where each rank has a share.
    """

    kind: Literal["pairs"] = "pairs"
    judges_pairs: ClassVar[bool] = True

    @property
    def needs(self) -> Needs:
        """Images by twos and a head that judges them: a sentence about two images is no caption of either."""
        return Needs(self.kind, pairs=True, uncached="images by twos", task="nlvr2")

    def build(
        self, *, embed_dim: int | None = None, teacher_widths: Sequence[int] = (), feature_dim: int | None = None
    ) -> "Objective":
        return self.losses

    def losses(self, features: "Features", batch: "ImageTextBatch") -> "Mapping[str, Tensor]":
        """The loss over pairs of images and their sentence, by its name."""
        from pocketclip.objectives.pairs import pair_losses

        return pair_losses(features, batch)


ObjectiveConfig = Annotated[
    ContrastiveObjectiveConfig
    | ReinforcedObjectiveConfig
    | DistillationObjectiveConfig
    | SSmkeObjectiveConfig
    | PersonObjectiveConfig
    | PairsObjectiveConfig,
    Field(discriminator="kind"),
]
"""The union of every method; its members are told apart by `kind`."""
