"""Contrastive learning with any of the losses over one batch."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from jaxtyping import Float, Shaped
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from pocketclip.config import Config
from pocketclip.errors import UserError
from pocketclip.losses import clip_loss, multi_positive_loss, positive_pairs, sigmoid_loss, soft_target_loss
from pocketclip.losses.sharded import (
    sharded_clip_loss,
    sharded_multi_positive_loss,
    sharded_sigmoid_loss,
    sharded_soft_target_loss,
)
from pocketclip.losses.tiled import matching_pairs, tiled_clip_loss, tiled_multi_positive_loss, tiled_sigmoid_loss
from pocketclip.types import Features, ImageTextBatch

MATRIX_LIMIT = 1 << 24
"""Pairs of a batch above which a loss is computed tile by tile: 4,096 x 4,096, or 64 MiB a matrix of float32."""


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

    @property
    def pair_loss(self) -> LossConfig:
        """The loss over pairs, which asks for a bias or for single captions."""
        return self.loss

    @property
    def uses_teachers(self) -> bool:
        """Whether it reads what teachers made of a batch."""
        return False

    @property
    def needs_teacher_captions(self) -> bool:
        """Whether its teachers have to know captions too."""
        return False

    @property
    def validation(self) -> "ContrastiveObjectiveConfig":
        """What is measured on a validation split: the same."""
        return self

    def build(self, *, embed_dim: int | None = None, teacher_widths: Sequence[int] = ()) -> "ContrastiveObjective":
        """An objective for the training loop.

        Args:
            embed_dim: of the student; nothing here depends on it.
            teacher_widths: likewise.
        """
        del embed_dim, teacher_widths
        return ContrastiveObjective(self)


class ContrastiveObjective:
    """One contrastive loss over normalised features (the soft-target loss takes them as they are)."""

    def __init__(self, config: ContrastiveObjectiveConfig) -> None:
        self.loss = config.loss
        self.weight = config.weight

    def __call__(self, features: Features, batch: ImageTextBatch) -> Mapping[str, Tensor]:
        """The loss by its name."""
        return {self.loss.kind: self.weight * contrastive_loss(self.loss, features, batch)}


def contrastive_loss(loss: LossConfig, features: Features, batch: ImageTextBatch) -> Float[Tensor, ""]:
    """A loss over all pairs of a batch: plain, tile by tile where it is large, or this rank's share of it.

    Args:
        loss: which one.
        features: of the batch, not normalised.
        batch: says which images and texts match.

    Raises:
        UserError: several captions an image, for a loss that takes one.
    """
    if not isinstance(loss, SigmoidLossConfig | MultiPositiveLossConfig) and batch.captions_per_image != 1:
        raise UserError(
            f"objective.loss: {loss.kind} takes one caption an image (got train.captions_per_image = "
            f"{batch.captions_per_image}); use multi_positive or sigmoid for more."
        )
    if len(batch.shares) > 1:
        return _sharded_loss(loss, features, batch)
    scale = features.logit_scale
    if isinstance(loss, SoftTargetLossConfig):
        return soft_target_loss(features.image, features.text, scale)
    image, text = unit_features(features)
    tiled = in_tiles(image, text)
    if isinstance(loss, ClipLossConfig):
        clip = tiled_clip_loss if tiled else clip_loss
        return clip(image, text, scale, label_smoothing=loss.label_smoothing)
    ids = batch.image_ids, batch.image_ids.repeat_interleave(batch.captions_per_image), batch.caption_ids
    if isinstance(loss, SigmoidLossConfig):
        if tiled:
            return tiled_sigmoid_loss(image, text, scale, features.logit_bias, matching_pairs(*ids))
        return sigmoid_loss(image, text, scale, features.logit_bias, positives=positive_pairs(*ids))
    if tiled:
        return tiled_multi_positive_loss(image, text, scale, matching_pairs(*ids))
    return multi_positive_loss(image, text, scale, positive_pairs(*ids))


def _sharded_loss(loss: LossConfig, features: Features, batch: ImageTextBatch) -> Tensor:
    """This rank's share of the whole batch's loss; the mean over ranks is the loss."""
    scale, shares = features.logit_scale, batch.shares
    if isinstance(loss, SoftTargetLossConfig):
        return sharded_soft_target_loss(features.image, features.text, scale, shares)
    image, text = unit_features(features)
    if isinstance(loss, ClipLossConfig):
        return sharded_clip_loss(image, text, scale, shares, label_smoothing=loss.label_smoothing)
    ids = batch.image_ids, batch.caption_ids
    if isinstance(loss, SigmoidLossConfig):
        return sharded_sigmoid_loss(image, text, scale, features.logit_bias, *ids, shares)
    return sharded_multi_positive_loss(image, text, scale, *ids, shares)


def unit_features(features: Features) -> tuple[Float[Tensor, "B D"], Float[Tensor, "M D"]]:
    """The images' and the texts' embeddings, of length 1."""
    return F.normalize(features.image, dim=1), F.normalize(features.text, dim=1)


def in_tiles(image: Shaped[Tensor, "B ..."], text: Shaped[Tensor, "M ..."]) -> bool:
    """Whether the matrix of all pairs is too large to hold."""
    return len(image) * len(text) > MATRIX_LIMIT
