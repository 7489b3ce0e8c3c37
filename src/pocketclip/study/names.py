"""What rows, levels and cells of a study are called, and their folders."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import yaml

from pocketclip.config import digest

LONGEST_FOLDER = 80


def slug(name: str) -> str:
    """A row's folder: its name in lower-case ASCII letters, digits and single dashes; a ValueError without any."""
    if "/" in name or "\\" in name:
        raise ValueError(f"row '{name}': a name becomes a folder, so it cannot hold / or \\")
    if folder := _plain(name):
        return folder
    raise ValueError(f"row '{name}': a name becomes a folder, so it needs a letter or digit of ASCII")


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", letters).strip("-")


def level_slugs(axis: str, levels: Sequence[str]) -> list[str]:
    """What each level of an axis adds to the folders of its cells; a ValueError where two cannot be told apart."""
    seen: dict[str, str] = {}
    for level in levels:
        if not (folder := _plain(level)):
            raise ValueError(f"axis '{axis}': level '{level}' becomes a folder, so it needs a letter or digit of ASCII")
        if folder in seen:
            raise ValueError(f"axis '{axis}': '{seen[folder]}' and '{level}' would share folder {folder}; rename one")
        seen[folder] = level
    return list(seen)


def cell_slug(levels: Sequence[str]) -> str:
    """A cell's folder, from the slugs of its levels; no slug has the `_` that joins them, so that none are alike."""
    folder = "_".join(levels)
    return folder if len(folder) <= LONGEST_FOLDER else f"{folder[: LONGEST_FOLDER - 9]}_{digest(folder)[:8]}"


def as_text(value: Any) -> str:
    """A value as `--set` takes it, so that reading it again gives the same value."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("...\n").strip()


def level_name(value: Any) -> str:
    """A level that is called by its value; YAML reads `on` and `off` as truth values."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return value if isinstance(value, str) else as_text(value)
