"""Contrastive learning with any of the losses over one batch."""

from collections.abc import Mapping
from typing import Literal

from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from pocketclip.config import kinds_of
from pocketclip.errors import UserError
from pocketclip.losses import LossConfig
from pocketclip.losses.clip import ClipLossConfig
from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.objectives.needs import MethodConfig, Needs
from pocketclip.types import Features, ImageTextBatch


class ContrastiveObjectiveConfig(MethodConfig):
    """One loss over all pairs of a batch, without teachers."""

    kind: Literal["contrastive"] = "contrastive"
    loss: LossConfig = ClipLossConfig()
    weight: PositiveFloat = 1.0

    @property
    def needs(self) -> Needs:
        captions: Literal["any", "one"] = "any" if self.loss.takes_several_captions else "one"
        return Needs(self.loss.kind, captions=captions, bias=self.loss.uses_bias)

    def losses(self, features: Features, batch: ImageTextBatch) -> Mapping[str, Tensor]:
        return {self.loss.kind: self.weight * contrastive_loss(self.loss, features, batch)}


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


def losses_for_several_captions() -> str:
    """Kinds of losses, as a message names them."""
    return " or ".join(sorted(kind for kind, loss in kinds_of(LossConfig).items() if loss.takes_several_captions))
