"""Contrastive learning with any of the losses over one batch."""

from jaxtyping import Float
from torch import Tensor

from pocketclip.errors import UserError
from pocketclip.losses import LossConfig
from pocketclip.losses.config import ClipLossConfig
from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.objectives.needs import losses_for_several_captions
from pocketclip.types import Features, ImageTextBatch


def contrastive_loss(loss: LossConfig, features: Features, batch: ImageTextBatch) -> Float[Tensor, ""]:
    """A loss over all pairs of a batch: plain, tile by tile where it is large, or this rank's share of it.

    Several captions an image for a loss that takes one, and a large batch for a loss without that form: a UserError.
    """
    if batch.captions_per_image != 1 and not loss.takes_several_captions:
        raise UserError(
            f"objective.loss: {loss.kind} takes one caption an image (got train.captions_per_image = "
            f"{batch.captions_per_image}); use {losses_for_several_captions()} for more."
        )
    return loss.value(ContrastiveInputs.of(features, batch))


def clip_of(features: Features, batch: ImageTextBatch) -> Float[Tensor, ""]:
    """CLIP's loss of a batch with one caption an image."""
    return contrastive_loss(ClipLossConfig(), features, batch)
