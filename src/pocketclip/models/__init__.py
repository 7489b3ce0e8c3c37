"""Towers, heads and the dual encoder that joins them; configs come without torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pocketclip.models.build import build_model
    from pocketclip.models.config import DualEncoderConfig
    from pocketclip.models.dual_encoder import DualEncoder

__all__ = ["DualEncoder", "DualEncoderConfig", "build_model"]


def __getattr__(name: str) -> Any:
    """Import what is exported when it is first asked for; all but the config needs torch."""
    homes = {"DualEncoder": "dual_encoder", "DualEncoderConfig": "config", "build_model": "build"}
    if name in homes:
        return getattr(import_module(f"pocketclip.models.{homes[name]}"), name)
    raise AttributeError(f"module 'pocketclip.models' has no attribute '{name}'")
