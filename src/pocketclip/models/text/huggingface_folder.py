"""Where a Hugging Face tower's architecture, tokenizer and weights are: a pip package, the hub, or a folder."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from pocketclip.errors import UserError, first_line, require
from pocketclip.models.origin.packages import TEXT_PACKAGES, packaged
from pocketclip.models.origin.weights import load_weights, read_state_dict
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
    return {key: value for key, value in json.loads(path.read_text()).items() if not key.startswith("_")}


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


def fill_tower(tower: nn.Module, folder: Path) -> None:
    """Fill a bare tower from a folder; a model saved with a head keeps its tower behind a prefix such as `bert.`.

    Raises:
        UserError: there are no weights, or they do not fit.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"{folder}: no .safetensors weights here.")
    own, weights = set(tower.state_dict()), {}
    for name, value in (item for file in files for item in read_state_dict(file).items()):
        for candidate in (name, name.partition(".")[2]):
            current = candidate.replace("gamma", "weight").replace("beta", "bias")  # the oldest files' LayerNorms
            if names := {candidate, current} & own:
                weights[names.pop()] = value
                break
    load_weights(tower, weights, place=str(folder))
