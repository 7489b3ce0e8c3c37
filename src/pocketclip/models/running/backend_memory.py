"""What was measured on this machine: `backends.json` in the cache folder, one entry a machine and tower."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import BaseModel

from pocketclip.config import digest
from pocketclip.errors import UserError
from pocketclip.files import write_atomically


def memory_path() -> Path:
    """In `$POCKETCLIP_CACHE`, or in `~/.cache/pocketclip`."""
    return Path(os.environ.get("POCKETCLIP_CACHE", "~/.cache/pocketclip")).expanduser() / "backends.json"


def recall(made_from: Mapping[str, object]) -> dict[str, Any]:
    """What was measured for these inputs; empty where nothing was, or the file is damaged."""
    entry = _read(memory_path()).get(digest(made_from))
    found = entry.get("backends") if isinstance(entry, dict) else None
    return found if isinstance(found, dict) else {}


def remember(made_from: Mapping[str, object], measured: Mapping[Any, BaseModel]) -> None:
    """Keep what was measured, in place of what was known; a folder that cannot be written only costs the time again."""
    path = memory_path()
    entry = {"made_from": dict(made_from), "backends": {name: value.model_dump() for name, value in measured.items()}}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            values = {**_read(path), digest(made_from): entry}
            write_atomically(path, json.dumps(values, indent=2) + "\n")
    except (OSError, UserError):
        return


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
