"""What was measured on this machine: `backends.json` in the cache folder, one entry a machine and tower."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from pydantic import ValidationError

from pocketclip.config import Config, digest
from pocketclip.errors import UserError
from pocketclip.files import cache_root, write_atomically

Backend = Literal["eager", "compiled", "onnx"]


class Timing(Config):
    """One backend with one tower on this machine."""

    items_per_second: float = 0.0
    setup_seconds: float = 0.0
    """In a process that is not the first to set it up."""
    first_setup_seconds: float = 0.0
    min_cosine: float = 1.0
    mean_cosine: float = 1.0
    refused: str = ""
    """Why it is not used; empty where it may be."""

    def seconds(self, num_items: int) -> float:
        """A whole job, set-up included."""
        return self.setup_seconds + num_items / self.items_per_second if self.items_per_second > 0 else float("inf")


class Entry(Config):
    """What was measured of one tower."""

    made_from: dict[str, Any]
    backends: dict[Backend, Timing]


def memory_path() -> Path:
    """In `$POCKETCLIP_CACHE`, or in `~/.cache/pocketclip`."""
    return cache_root() / "backends.json"


def recall(made_from: Mapping[str, object]) -> dict[Backend, Timing]:
    """What was measured for these inputs; empty where nothing was, or what is there is damaged or of other versions."""
    try:
        return Entry.model_validate(_read(memory_path()).get(digest(made_from))).backends
    except ValidationError:
        return {}


def remember(made_from: Mapping[str, object], timings: dict[Backend, Timing]) -> None:
    """Keep what was measured, in place of what was known; a folder that cannot be written only costs the time again."""
    path, entry = memory_path(), Entry(made_from=dict(made_from), backends=timings)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            values = {**_read(path), digest(made_from): entry.model_dump()}
            write_atomically(path, json.dumps(values, indent=2) + "\n")
    except (OSError, UserError):
        return


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
