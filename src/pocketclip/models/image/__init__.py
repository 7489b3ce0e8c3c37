"""Image towers, one family a file."""

from typing import Annotated

from pydantic import Field

from pocketclip.models.image.clip_resnet import ClipResNetEncoderConfig
from pocketclip.models.image.timm import TimmImageEncoderConfig

ImageEncoderConfig = Annotated[TimmImageEncoderConfig | ClipResNetEncoderConfig, Field(discriminator="kind")]
"""The union of every family; its members are told apart by `kind`."""
