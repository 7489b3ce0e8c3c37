"""A teacher: a trained model that is only asked, each with its own tokenizer, size and colours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from pocketclip.models.precision import Precision, autocast
from pocketclip.preprocess import PreprocessConfig

Tokens = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]
Scale = Annotated[float, Field(gt=0)] | Literal["own"]
"""Inverse temperature of a teacher's similarities; `own` is the one it was trained to."""


@dataclass(frozen=True)
class Teacher:
    """Encodes pictures, and captions where it knows some, without a gradient; safe to call from several threads."""

    name: str
    """Safe in file names; unique in a run."""
    kind: str
    width: int
    """Of an embedding."""
    scale: float
    """Inverse temperature, such as 50 or 100."""
    preprocess: PreprocessConfig
    """The size of the pixels it takes."""
    fingerprint: str
    """Sixteen hex digits that change with its weights and with the settings that shape its embeddings."""
    device: torch.device
    embed_images: Callable[[Tensor], Tensor]
    """(B, 3, H, W) bytes on the device to (B, width)."""
    tokenize: Callable[[Sequence[str]], Tokens] | None = None
    """M captions to (M, L) ids and (M, L) mask, True where a token stands; None where it knows images only."""
    embed_tokens: Callable[[Tensor, Tensor], Tensor] | None = None
    """(M, L) ids and mask on the device to (M, width); None where it knows images only."""
    normalize: bool = True
    """Whether an image's vector is brought to length 1; of one that was not trained by cosines the length says
    something too."""

    def images_only(self) -> "Teacher":
        """The same teacher without its text side."""
        return replace(self, tokenize=None, embed_tokens=None)

    @torch.no_grad()
    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) bytes to (B, width) float32, of unit length with `normalize`."""
        found = self.embed_images(images.to(self.device)).float()
        return nn.functional.normalize(found, dim=1) if self.normalize else found

    @torch.no_grad()
    def encode_text(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """(M, L) ids and mask to (M, width) float32 of unit length."""
        assert self.embed_tokens is not None, "this teacher knows images only"
        found = self.embed_tokens(tokens.to(self.device), token_mask.to(self.device))
        return nn.functional.normalize(found.float(), dim=1)


def normalized(images: Tensor, preprocess: PreprocessConfig) -> Tensor:
    """(B, 3, H, W) bytes to floats with a tower's mean and standard deviation, as `preprocess.normalize_pixels`."""
    mean, std = (
        torch.tensor(values, device=images.device).view(3, 1, 1) for values in (preprocess.mean, preprocess.std)
    )
    return (images.float() / 255 - mean) / std


def in_precision(function: Callable[..., Tensor], precision: Precision, device: torch.device) -> Callable[..., Tensor]:
    """A function computed in a number type; see `models.precision`."""

    def call(*inputs: Tensor) -> Tensor:
        with autocast(precision, device):
            return function(*inputs)

    return call


def measured_width(images: Callable[[Tensor], Tensor], preprocess: PreprocessConfig, device: torch.device) -> int:
    """The width of an embedding, from that of one grey picture."""
    size = preprocess.image_size
    with torch.no_grad():
        return int(images(torch.full((1, 3, size, size), 128, dtype=torch.uint8, device=device)).shape[1])
