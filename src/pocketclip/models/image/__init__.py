"""Image towers, one family a file."""

from pocketclip.models.image.timm import TimmImageEncoder, TimmImageEncoderConfig

ImageEncoderConfig = TimmImageEncoderConfig
"""The union of every family; its members are told apart by `kind`."""

__all__ = ["ImageEncoderConfig", "TimmImageEncoder", "TimmImageEncoderConfig"]
