"""Image towers, one family a file."""

from typing import Annotated

from pydantic import Field

from pocketclip.models.image.clip_resnet import ClipResNetEncoder, ClipResNetEncoderConfig
from pocketclip.models.image.timm import TimmImageEncoder, TimmImageEncoderConfig

ImageEncoderConfig = Annotated[TimmImageEncoderConfig | ClipResNetEncoderConfig, Field(discriminator="kind")]
"""The union of every family; its members are told apart by `kind`."""

__all__ = [
    "ClipResNetEncoder",
    "ClipResNetEncoderConfig",
    "ImageEncoderConfig",
    "TimmImageEncoder",
    "TimmImageEncoderConfig",
]
