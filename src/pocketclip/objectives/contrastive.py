"""Contrastive learning with any of the losses over one batch."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from pocketclip.config import Config
from pocketclip.errors import UserError
from pocketclip.losses import clip_loss, multi_positive_loss, positive_pairs, sigmoid_loss, soft_target_loss
from pocketclip.types import Features, ImageTextBatch


class ClipLossConfig(Config):
    """CLIP's softmax: one text an image, all others are negatives."""

    kind: Literal["clip"] = "clip"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class SigmoidLossConfig(Config):
    """SigLIP's sigmoid; set `model.logit_bias` to about -ln(B - 1)."""

    kind: Literal["sigmoid"] = "sigmoid"


class SoftTargetLossConfig(Config):
    """The small-encoder study's loss, as published and defective; see `losses/soft_target.py`."""

    kind: Literal["soft_target"] = "soft_target"


class MultiPositiveLossConfig(Config):
    """Softmax in which captions of one image, and equal captions, are not each other's negatives."""

    kind: Literal["multi_positive"] = "multi_positive"


LossConfig = Annotated[
    ClipLossConfig | SigmoidLossConfig | SoftTargetLossConfig | MultiPositiveLossConfig,
    Field(discriminator="kind"),
]


class ContrastiveObjectiveConfig(Config):
    """The `objective` section of a recipe."""

    kind: Literal["contrastive"] = "contrastive"
    loss: LossConfig = ClipLossConfig()
    weight: PositiveFloat = 1.0

    def build(self) -> "ContrastiveObjective":
        """An objective for the training loop."""
        return ContrastiveObjective(self)


class ContrastiveObjective:
    """One contrastive loss over normalised features (the soft-target loss takes them as they are)."""

    def __init__(self, config: ContrastiveObjectiveConfig) -> None:
        self.loss = config.loss
        self.weight = config.weight

    def __call__(self, features: Features, batch: ImageTextBatch) -> Mapping[str, Tensor]:
        """The loss by its name."""
        return {self.loss.kind: self.weight * self._loss(features, batch)}

    def _loss(self, features: Features, batch: ImageTextBatch) -> Tensor:
        scale = features.logit_scale
        if isinstance(self.loss, SoftTargetLossConfig):
            self._need_single_captions(batch)
            return soft_target_loss(features.image, features.text, scale)
        image, text = F.normalize(features.image, dim=1), F.normalize(features.text, dim=1)
        if isinstance(self.loss, ClipLossConfig):
            self._need_single_captions(batch)
            return clip_loss(image, text, scale, label_smoothing=self.loss.label_smoothing)
        text_image_ids = batch.image_ids.repeat_interleave(batch.captions_per_image)
        positives = positive_pairs(batch.image_ids, text_image_ids, batch.caption_ids)
        if isinstance(self.loss, SigmoidLossConfig):
            return sigmoid_loss(image, text, scale, features.logit_bias, positives=positives)
        return multi_positive_loss(image, text, scale, positives)

    def _need_single_captions(self, batch: ImageTextBatch) -> None:
        if batch.captions_per_image != 1:
            raise UserError(
                f"objective.loss: {self.loss.kind} takes one caption an image (got train.captions_per_image = "
                f"{batch.captions_per_image}); use multi_positive or sigmoid for more."
            )
