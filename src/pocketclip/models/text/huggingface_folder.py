"""Where a Hugging Face tower's architecture, tokenizer and weights are: a pip package, the hub, or a folder."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pocketclip.errors import UserError, first_line, require
from pocketclip.models.origin.weights import TEXT_PACKAGES, packaged, read_state_dict
from pocketclip.models.sizes import text_architecture


def find_architecture(name: str, pretrained: str) -> dict[str, Any]:
    """A tower's configuration: ours by name where we hold it, else from the place its weights come from.

    Raises:
        UserError: it is found nowhere.
    """
    known = text_architecture(name)
    if pretrained in ("none", "hub") and known is not None:
        return known
    folder = hub_folder(name, ["config.json"]) if pretrained == "none" else tower_folder(name, pretrained)
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{path}: missing; a text tower's folder is what transformers' save_pretrained writes.")
    values: dict[str, Any] = json.loads(path.read_text())
    return {key: value for key, value in values.items() if not key.startswith("_")}


def tower_folder(name: str, pretrained: str) -> Path:
    """The folder with a tower's config, tokenizer and weights."""
    if pretrained == "package":
        return packaged("text tower", name, TEXT_PACKAGES).path().parent
    if pretrained == "hub":
        return hub_folder(name, ["config.json", "tokenizer.json", "*.safetensors"])
    if not (path := Path(pretrained)).is_dir():
        raise UserError(f"{pretrained}: no such folder; pretrained takes hub, package, none or a folder.")
    return path


def hub_folder(name: str, patterns: list[str]) -> Path:
    """Files of a repository of the hub, downloaded unless they are in its cache.

    Raises:
        UserError: the hub did not answer.
    """
    hub = require("huggingface_hub", extra="train")
    try:
        return Path(hub.snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # offline, no such repository, gated: the hub has a dozen types
        raise UserError(
            f"{name}: the hub did not answer ({first_line(error)}). Without a hub: pretrained: package "
            f"({', '.join(TEXT_PACKAGES)}), a folder, or none with tokenizer: bert or captions."
        ) from error


def read_pretrained(name: str, pretrained: str) -> tuple[str, dict[str, Tensor]]:
    """The place a tower's weights come from, and the weights.

    Raises:
        UserError: there are none.
    """
    folder = tower_folder(name, pretrained)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"{folder}: no .safetensors weights here.")
    weights: dict[str, Tensor] = {}
    for file in files:
        weights.update(read_state_dict(file))
    return str(folder), weights


def matching(weights: dict[str, Tensor], tower: nn.Module) -> dict[str, Tensor]:
    """The weights a bare tower needs: a model saved with a head keeps them behind a prefix such as `bert.`."""
    own = set(tower.state_dict())
    renamed = {}
    for name, value in weights.items():
        short = name.partition(".")[2]
        for candidate in (name, short):
            current = candidate.replace("gamma", "weight").replace("beta", "bias")  # the oldest files' LayerNorms
            if found := {candidate, current} & own:
                renamed[found.pop()] = value
                break
    return renamed
