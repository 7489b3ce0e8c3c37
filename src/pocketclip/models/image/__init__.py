"""Image towers, one family a file."""

from pocketclip.models.image.config import ImageEncoderConfig

__all__ = ["ImageEncoderConfig"]
