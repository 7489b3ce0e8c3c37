"""Towers, heads and the dual encoder that joins them."""

from pocketclip.errors import require

require("torch", extra="train")

from pocketclip.models.dual_encoder import DualEncoder, DualEncoderConfig  # noqa: E402

__all__ = ["DualEncoder", "DualEncoderConfig"]
