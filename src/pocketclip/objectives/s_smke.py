"""S-SMKE: contrast on several layers of a shared encoder, and a frozen image teacher's vector as everyone's target."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip import distributed
from pocketclip.config import Config
from pocketclip.errors import UserError
from pocketclip.losses.queue import NOBODY, FeatureQueue
from pocketclip.losses.target import target_contrast_loss, target_distance_loss, target_logits_loss
from pocketclip.objectives.contrastive import clip_of
from pocketclip.objectives.needs import Needs, Teachers
from pocketclip.objectives.teachers import TaughtMethodConfig, caption_by_caption, clamp_scales, learned_scales
from pocketclip.types import Features, ImageTextBatch

Layer = Literal["hidden", "output", "teacher_head"]


class NoDistillConfig(Config):
    """No teacher: the contrastive losses alone."""

    kind: Literal["none"] = "none"


class MseDistillConfig(Config):
    """The student's vectors end where the teacher's are, lengths and all: the first form of S-SMKE."""

    kind: Literal["mse"] = "mse"
    weight: PositiveFloat = 1.0


class LogitsDistillConfig(Config):
    """The student gives the teacher's classes their probabilities, as SHRe does."""

    kind: Literal["logits"] = "logits"
    weight: PositiveFloat = 1.0


class ContrastiveDistillConfig(Config):
    """The student finds its image's vector among those of the batch and of a queue: the final form of S-SMKE."""

    kind: Literal["contrastive"] = "contrastive"
    weight: PositiveFloat = 1.0
    queue_size: NonNegativeInt = 0
    """The teacher's vectors of how many earlier images are further negatives; 0 has none, S-SMKE takes 65,536. A queue
    of the student's own collapses: its vectors of earlier steps are those of another model, and telling them from new
    ones is all that it learns (published: 0.001 % on ImageNet)."""
    same_image: Literal["negative", "left_out"] = "negative"
    """What another vector of the same image is, in the batch or in the queue: `negative` as published, which does no
    harm where a queue is a small part of the images; `left_out` where it holds most of them."""


DistillConfig = Annotated[
    NoDistillConfig | MseDistillConfig | LogitsDistillConfig | ContrastiveDistillConfig, Field(discriminator="kind")
]


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
            queue=("distill.queue_size", self.queue_size) if self.queue_size else None,
        )

    @property
    def queue_size(self) -> int:
        """Places of the queue; 0 without one."""
        return self.distill.queue_size if isinstance(self.distill, ContrastiveDistillConfig) else 0

    def build(self, *, embed_dim: int | None = None, teacher_widths: Sequence[int] = ()) -> "SSmkeObjective":
        if len(teacher_widths) > 1:
            raise UserError(
                f"objective.kind s_smke: learns from one teacher (got {len(teacher_widths)}); name one in teachers, or "
                "choose one with data.train.teachers where the data are reinforced."
            )
        return SSmkeObjective(self, embed_dim, teacher_widths[0] if teacher_widths else None)


class SSmkeObjective(nn.Module):
    """Contrast on layers of the shared encoder, and distillation from the teacher's vectors of the images.

    Reference: T. Cares, "Self-Supervised Multimodal Knowledge Extraction", master's thesis, HS Hannover, 2024,
    https://github.com/TimCares/EV-LP. There each rank contrasts its students with its own targets and the queue; here
    with those of the whole batch, so that several ranks learn what one would. There the queue begins with random
    vectors; here the part that was never filled is left out.
    """

    def __init__(self, config: SSmkeObjectiveConfig, embed_dim: int | None, teacher_width: int | None) -> None:
        super().__init__()
        self.layers, self.distill = config.contrastive, config.distill
        self.distill_weight = 0.0 if isinstance(config.distill, NoDistillConfig) else config.distill.weight
        scaled: list[str] = [layer for layer in config.contrastive if layer != "output"]  # that scale is the model's
        if config.distill.kind == "contrastive":
            scaled.append("distill")
        self.log_scales = nn.ParameterDict({name: learned_scales() for name in scaled})
        self.head: nn.Module | None = None
        self.queue: FeatureQueue | None = None
        if config.needs.asks_teachers:
            assert embed_dim is not None
            assert teacher_width is not None
            self.head = nn.Sequential(nn.LayerNorm(embed_dim, eps=1e-6), nn.Linear(embed_dim, teacher_width))
            if config.queue_size:
                self.queue = FeatureQueue(config.queue_size, teacher_width)

    def forward(self, features: Features, batch: ImageTextBatch) -> Mapping[str, Tensor]:
        """`clip_LAYER` of each layer, then `distill_image` and `distill_text`; synthetic captions apart."""
        clamp_scales(self.log_scales.values())
        headed = None
        if self.head is not None:
            headed = replace(features, image=self.head(features.image), text=self.head(features.text), layers=())
        losses = {
            name: 1 / len(self.layers) * value
            for layer in self.layers
            for name, value in caption_by_caption(
                f"clip_{layer}", clip_of, self._of_layer(layer, features, headed), batch
            ).items()
        }
        return losses if headed is None else losses | self._distill(headed, batch)

    def _of_layer(self, layer: Layer, features: Features, headed: Features | None) -> Features:
        """A layer's vectors with its own temperature."""
        if layer == "output":
            return features
        scale = self.log_scales[layer].exp()
        if layer == "teacher_head":
            assert headed is not None
            return replace(headed, logit_scale=scale)
        assert features.layers, "recipes ask for the hidden layer of models with a shared encoder only"
        return replace(features, image=features.layers[-1].image, text=features.layers[-1].text, logit_scale=scale)

    def _distill(self, headed: Features, batch: ImageTextBatch) -> dict[str, Tensor]:
        """Half the loss of the images and half that of the texts."""
        assert len(batch.teachers) == 1, "the batch should carry the features of one teacher"
        target = batch.teachers[0].image
        if isinstance(self.distill, ContrastiveDistillConfig):
            compare = self._contrast(target, batch, self.distill)
        elif isinstance(self.distill, MseDistillConfig):
            compare = partial(target_distance_loss, target=target)
        else:
            compare = partial(target_logits_loss, target=target)
        losses = {"distill_image": compare(headed.image)}
        losses |= caption_by_caption("distill_text", lambda part, _: compare(part.text), headed, batch)
        weight = 0.5 * self.distill_weight * distributed.weight_of_share(len(batch), batch.shares)
        return {name: weight * value for name, value in losses.items()}

    def _contrast(
        self, target: Tensor, batch: ImageTextBatch, config: ContrastiveDistillConfig
    ) -> Callable[[Tensor], Tensor]:
        """The contrastive loss of this rank's students; the queue then takes in the targets of all ranks."""
        new = distributed.gather(F.normalize(target, dim=1), batch.shares)
        new_ids = distributed.gather(batch.image_ids, batch.shares)
        labels = sum(batch.shares[: distributed.rank()]) + torch.arange(len(target), device=target.device)
        candidates, ids = new, new_ids
        if self.queue is not None:  # copied, since the queue changes before the backward pass
            candidates, ids = torch.cat([new, self.queue.rows]), torch.cat([new_ids, self.queue.image_ids])
            if self.training:
                self.queue.push(new, new_ids)
        left_out = (ids == NOBODY).repeat(len(target), 1)
        if config.same_image == "left_out":
            left_out |= batch.image_ids[:, None] == ids
            left_out.scatter_(1, labels[:, None], False)
        scale = self.log_scales["distill"].exp()
        return lambda student: target_contrast_loss(F.normalize(student, dim=1), candidates, scale, labels, left_out)
