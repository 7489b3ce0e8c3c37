"""Models one can name: one JSON a size, a whole `model` section; in `text/`, architectures of Hugging Face towers."""

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from pocketclip.errors import UserError, unknown_choice

FOLDER = resources.files(__name__)


def list_sizes() -> list[str]:
    """Every name that `model: NAME` in a recipe may have, such as `mobileclip_s0`."""
    files = (file.name for file in FOLDER.iterdir())
    return sorted(name.removesuffix(".json") for name in files if name.endswith(".json"))


def read_size(name: str) -> dict[str, Any]:
    """The `model` section of a size.

    Raises:
        UserError: there is no such size; the message has the nearest one.
    """
    if name not in list_sizes():
        raise unknown_choice("size", name, list_sizes())
    values: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return values


def text_architecture(name: str) -> dict[str, Any] | None:
    """The configuration of a Hugging Face text tower; None where only the hub has it."""
    file = FOLDER / "text" / f"{name.replace('/', '--')}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def with_size(values: Any) -> Any:
    """A `model` section without `size`, given the name of a size or a section; one without `size` stays as it is.

    The other keys of a section go before those of its size, within its parts too. A part with a `size` is that part of
    it: `text_encoder: {size: vit_b_32}` is CLIP's text tower, whatever the image tower is.

    Raises:
        UserError: there is no such size.
    """
    if isinstance(values, str):
        return read_size(values)
    if not isinstance(values, Mapping):
        return values
    changes = {key: _part_of_size(key, value) for key, value in values.items() if key != "size"}
    return _merged(_named(values["size"]), changes) if "size" in values else changes


class _WholePart(dict[str, Any]):
    """Replaces a size's own part instead of changing it."""


def _named(size: Any) -> dict[str, Any]:
    if not isinstance(size, str):
        raise UserError(f"size should be a name (got {size!r}).")
    return read_size(size)


def _part_of_size(part: str, values: Any) -> Any:
    if not isinstance(values, Mapping) or "size" not in values:
        return values
    whole, changes = _named(values["size"]), {key: value for key, value in values.items() if key != "size"}
    if part not in whole:
        raise UserError(f"{part}.size: {values['size']} has no {part}.")
    return _WholePart(_merged(whole[part], changes))


def _merged(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values with changes put in; a part of another `kind` replaces the whole part."""
    merged = {**values, **changes}
    for key, change in changes.items():
        if isinstance(old := values.get(key), dict) and isinstance(change, Mapping) and type(change) is not _WholePart:
            is_same_kind = change.get("kind", old.get("kind")) == old.get("kind")
            merged[key] = _merged(old, change) if is_same_kind else change
    return merged
