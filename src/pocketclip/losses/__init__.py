"""Losses as pure functions of features, and the configs of the contrastive ones; `pocketclip.objectives` uses them."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pocketclip.config import with_registered
from pocketclip.losses.affinity import affinity_loss
from pocketclip.losses.clip import ClipLossConfig, clip_loss
from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.losses.feature import feature_loss
from pocketclip.losses.gradient import contrastive_gradients, gradient_loss
from pocketclip.losses.interactive import interactive_loss
from pocketclip.losses.matches import positive_pairs
from pocketclip.losses.multi_positive import MultiPositiveLossConfig, multi_positive_loss
from pocketclip.losses.sigmoid import SigmoidLossConfig, sigmoid_loss
from pocketclip.losses.soft_target import SoftTargetLossConfig, soft_target_loss
from pocketclip.losses.target import target_contrast_loss, target_distance_loss, target_logits_loss

LossConfig = Annotated[
    ClipLossConfig | SigmoidLossConfig | SoftTargetLossConfig | MultiPositiveLossConfig, Field(discriminator="kind")
]
"""The union of every loss over all pairs of a batch."""
if not TYPE_CHECKING:
    LossConfig = with_registered(LossConfig, "pocketclip.losses")

__all__ = [
    "ClipLossConfig",
    "ContrastiveInputs",
    "LossConfig",
    "MultiPositiveLossConfig",
    "SigmoidLossConfig",
    "SoftTargetLossConfig",
    "affinity_loss",
    "clip_loss",
    "contrastive_gradients",
    "feature_loss",
    "gradient_loss",
    "interactive_loss",
    "multi_positive_loss",
    "positive_pairs",
    "sigmoid_loss",
    "soft_target_loss",
    "target_contrast_loss",
    "target_distance_loss",
    "target_logits_loss",
]
