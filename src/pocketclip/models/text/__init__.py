"""Text towers, one family a file."""

from pocketclip.models.text.config import TextEncoderConfig

__all__ = ["TextEncoderConfig"]
