"""Text towers, one family a file."""

from typing import Annotated

from pydantic import Field

from pocketclip.models.text.clip import ClipTextEncoderConfig
from pocketclip.models.text.huggingface import HuggingFaceTextEncoderConfig

TextEncoderConfig = Annotated[HuggingFaceTextEncoderConfig | ClipTextEncoderConfig, Field(discriminator="kind")]
"""The union of every family; its members are told apart by `kind`."""
