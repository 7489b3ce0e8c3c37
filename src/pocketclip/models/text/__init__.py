"""Text towers, one family a file."""

from pocketclip.models.text.huggingface import HuggingFaceTextEncoder, HuggingFaceTextEncoderConfig

TextEncoderConfig = HuggingFaceTextEncoderConfig
"""The union of every family; its members are told apart by `kind`."""

__all__ = ["HuggingFaceTextEncoder", "HuggingFaceTextEncoderConfig", "TextEncoderConfig"]
