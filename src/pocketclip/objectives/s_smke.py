"""S-SMKE: contrast on several layers of a shared encoder, and a frozen image teacher's vector as everyone's target."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip import distributed
from pocketclip.losses.queue import NOBODY, FeatureQueue
from pocketclip.losses.target import target_contrast_loss, target_distance_loss, target_logits_loss
from pocketclip.objectives.contrastive import clip_of
from pocketclip.objectives.teachers import caption_by_caption, clamp_scales, learned_scales
from pocketclip.objectives.terms import (
    ContrastiveDistillConfig,
    DistillConfig,
    Layer,
    MseDistillConfig,
    NoDistillConfig,
)
from pocketclip.types import Features, ImageTextBatch


class SSmkeObjective(nn.Module):
    """Contrast on layers of the shared encoder, and distillation from the teacher's vectors of the images.

    Reference: T. Cares, "Self-Supervised Multimodal Knowledge Extraction", master's thesis, HS Hannover, 2024,
    https://github.com/TimCares/EV-LP. There each rank contrasts its students with its own targets and the queue; here
    with those of the whole batch, so that several ranks learn what one would. There the queue begins with random
    vectors; here the part that was never filled is left out.
    """

    def __init__(
        self, layers: Sequence[Layer], distill: DistillConfig, embed_dim: int | None, teacher_width: int | None
    ) -> None:
        super().__init__()
        self.layers, self.distill = layers, distill
        self.distill_weight = 0.0 if isinstance(distill, NoDistillConfig) else distill.weight
        scaled: list[str] = [layer for layer in layers if layer != "output"]  # that scale is the model's
        if isinstance(distill, ContrastiveDistillConfig):
            scaled.append("distill")
        self.log_scales = nn.ParameterDict({name: learned_scales() for name in scaled})
        self.head: nn.Module | None = None
        self.queue: FeatureQueue | None = None
        if not isinstance(distill, NoDistillConfig):
            assert embed_dim is not None
            assert teacher_width is not None
            self.head = nn.Sequential(nn.LayerNorm(embed_dim, eps=1e-6), nn.Linear(embed_dim, teacher_width))
            if distill.queue_size:
                self.queue = FeatureQueue(distill.queue_size, teacher_width)

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
