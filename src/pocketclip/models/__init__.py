"""Towers, heads and the dual encoder that joins them; configs come without torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pocketclip.models.config import DualEncoderConfig

if TYPE_CHECKING:
    from pocketclip.models.build import build_model
    from pocketclip.models.dual_encoder import DualEncoder

__all__ = ["DualEncoder", "DualEncoderConfig", "build_model"]


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first asked for."""
    homes = {"DualEncoder": "dual_encoder", "build_model": "build"}
    if name in homes:
        return getattr(import_module(f"pocketclip.models.{homes[name]}"), name)
    raise AttributeError(f"module 'pocketclip.models' has no attribute '{name}'")
