"""What flows through a run: batches, features, and the two protocols a method fills in.

Shape letters, the same everywhere:
    B images (pairs) in a batch      M texts in a batch, M = B x K
    K captions drawn per image       L tokens
    D embedding width                F feature width of a tower
    H, W pixels                      N images, Q captions of a whole split
    C classes                        T teachers
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn


@dataclass(frozen=True)
class ImageTextBatch:
    """B images and the M = B x K captions drawn for them; text j belongs to image j // K.

    On the cached path `images` and `tokens` hold the frozen towers' features instead of pixels and ids.
    """

    images: Shaped[Tensor, "B ..."]
    """(B, 3, H, W) bytes, or (B, F) features."""
    tokens: Shaped[Tensor, "M ..."]
    """(M, L) ids, or (M, F) features."""
    token_mask: Bool[Tensor, "M ..."]
    """(M, L), True where a token stands; (M, 0) on the cached path."""
    image_ids: Int[Tensor, " B"]
    """(B,), equal where the image is the same."""
    caption_ids: Int[Tensor, " M"]
    """(M,), equal where the caption is the same text."""
    broken: list[str] = field(default_factory=list)
    """Items left out of this batch, one message each."""
    shares: tuple[int, ...] = ()
    """Images that every rank holds, where this is one rank's share of a batch; empty where it is all of it."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def captions_per_image(self) -> int:
        """K; equal for every image of a batch."""
        return len(self.tokens) // max(1, len(self.images))

    def to(self, device: torch.device) -> "ImageTextBatch":
        """The batch on another device."""
        moved = {
            item.name: getattr(self, item.name).to(device, non_blocking=True)
            for item in fields(self)
            if item.name not in ("broken", "shares")
        }
        return replace(self, **moved)

    def pairs(self, start: int, stop: int) -> "ImageTextBatch":
        """Images start to stop with their captions; used to run the towers chunk by chunk."""
        captions = slice(start * self.captions_per_image, stop * self.captions_per_image)
        return ImageTextBatch(
            images=self.images[start:stop],
            tokens=self.tokens[captions],
            token_mask=self.token_mask[captions],
            image_ids=self.image_ids[start:stop],
            caption_ids=self.caption_ids[captions],
        )  # a part stands for itself: its features are joined before a loss sees them


@dataclass(frozen=True)
class Features:
    """A dual encoder's output for a batch, before normalisation."""

    image: Float[Tensor, "B D"]
    text: Float[Tensor, "M D"]
    logit_scale: Float[Tensor, ""]
    """Inverse temperature, exponentiated."""
    logit_bias: Float[Tensor, ""]
    """Added to every logit; 0 unless the loss is sigmoid."""


@runtime_checkable
class Objective(Protocol):
    """Maps features to named, weighted losses; their sum is minimised."""

    def __call__(self, features: Features, batch: ImageTextBatch) -> Mapping[str, Tensor]:
        """Each loss a scalar with its weight already applied."""
        ...


@runtime_checkable
class Evaluator(Protocol):
    """Measures a model during training."""

    def __call__(self, model: nn.Module) -> Mapping[str, float]:
        """Metric names to values; the model is in evaluation mode."""
        ...
