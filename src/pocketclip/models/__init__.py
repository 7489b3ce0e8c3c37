"""Towers, heads and the dual encoder that joins them."""

from pocketclip.errors import require

require("torch", extra="train")

from pocketclip.models.build import build_model  # noqa: E402
from pocketclip.models.config import DualEncoderConfig  # noqa: E402
from pocketclip.models.dual_encoder import DualEncoder  # noqa: E402

__all__ = ["DualEncoder", "DualEncoderConfig", "build_model"]
