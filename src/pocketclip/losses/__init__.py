"""Losses as pure functions of features, one a file; the contrastive ones have a config and stand in a union.

Unless a loss says otherwise, all rows have length 1, a scale is an inverse temperature, already exponentiated, no
gradient flows into what a teacher gives, and a loss of two directions, images to texts and back, is their mean.
"""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pocketclip.config import with_registered
from pocketclip.losses.config import (
    ClipLossConfig,
    MultiPositiveLossConfig,
    SigmoidLossConfig,
    SoftTargetLossConfig,
)

LossConfig = Annotated[
    ClipLossConfig | SigmoidLossConfig | SoftTargetLossConfig | MultiPositiveLossConfig, Field(discriminator="kind")
]
"""The union of every loss over all pairs of a batch."""
if not TYPE_CHECKING:
    LossConfig = with_registered(LossConfig, "pocketclip.losses")
