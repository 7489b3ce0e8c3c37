"""The one thing a user keeps: a folder with config, weights, tokenizer, preprocessing and card.

    config.json                 what the model is (`BundleConfig`)
    model.safetensors           weights; never pickle
    tokenizer.json              read by the `tokenizers` library
    preprocessor_config.json    image size, mean, std in Hugging Face's keys
    README.md                   the model card, written from the records
    trained_on.npy              a sketch of the pictures it was trained on (`Sketch`), where they are known
    hubs.safetensors            a bank by which scores are corrected (`Hubs`), where one was made

Reading needs no torch.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy.typing as npt
from pydantic import PositiveInt

from pocketclip.config import Config
from pocketclip.errors import UserError, first_line, require
from pocketclip.files import cannot_write, did_you_mean, encode_text, files_digest, no_such
from pocketclip.hubs import FILE as HUBS
from pocketclip.hubs import Hubs
from pocketclip.preprocess import PreprocessConfig
from pocketclip.sketch import FILE as SKETCH
from pocketclip.sketch import Sketch
from pocketclip.tokenizer import Tokenizer

FILES = ("config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json", "README.md")
MAX_JSON_BYTES = 64 << 20
"""A config or tokenizer larger than this is refused: it is not one of ours."""


class BundleConfig(Config):
    """The content of `config.json`."""

    model_type: Literal["pocketclip"] = "pocketclip"
    format_version: Literal[1] = 1
    embed_dim: PositiveInt
    context_length: PositiveInt
    model: dict[str, Any]
    """The recipe's `model` section, with everything needed to build it without a hub."""


@dataclass(frozen=True)
class Bundle:
    """A bundle's parts, weights not yet read."""

    folder: Path
    config: BundleConfig
    tokenizer: Tokenizer
    preprocess: PreprocessConfig

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.folder / "model.safetensors"


def find_bundle(place: str | Path) -> Path:
    """The bundle folder that a path or a hub name stands for.

    A path may be the bundle itself or a run folder with `bundle/` inside. Anything that is not an existing path
    and looks like `owner/name` is fetched from the Hugging Face hub.
    """
    path = Path(place).expanduser()
    for candidate in (path, path / "bundle"):
        if (candidate / "config.json").is_file():
            return candidate
    if path.exists():
        raise UserError(f"{path}: no bundle here (no config.json, and no bundle/config.json). Did training finish?")
    text = str(place)
    if text.count("/") == 1 and not text.startswith((".", "/", "~")):
        hub = require("huggingface_hub", extra="train")
        try:
            return Path(hub.snapshot_download(text, allow_patterns=[*FILES, SKETCH, HUBS]))
        except Exception as error:  # offline, no such repository, gated: the hub has a dozen types
            reason = f"not a folder here, and the hub did not answer with it ({first_line(error)})"
            raise UserError(f"{text}: {reason}.{did_you_mean(path)}") from error
    raise no_such("bundle or run folder", place)


def read_bundle(place: str | Path) -> Bundle:
    """Open a bundle."""
    folder = find_bundle(place)
    for name in FILES[:4]:
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: missing; the bundle is incomplete.")
    settings, preprocessor, tokenizer = (folder / name for name in (FILES[0], FILES[3], FILES[2]))
    config = BundleConfig.parse(_read_json(settings), place=str(settings))
    preprocess = PreprocessConfig.from_hugging_face(_read_json(preprocessor), place=str(preprocessor))
    _check_size(tokenizer)
    return Bundle(folder, config, Tokenizer.from_file(tokenizer, config.context_length), preprocess)


def content_digest(place: str | Path) -> str:
    """Sixteen hex digits that change with a bundle's weights or with what shapes its embeddings."""
    folder = find_bundle(place)
    return files_digest([folder / name for name in FILES[:4]])


def _check_size(path: Path) -> None:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise UserError(f"{path}: larger than {MAX_JSON_BYTES >> 20} MiB; not a bundle's file.")


def _read_json(path: Path) -> dict[str, Any]:
    _check_size(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}).") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: should hold one JSON object.")
    return values


def write_bundle(
    folder: Path,
    *,
    config: BundleConfig,
    weights: Mapping[str, npt.NDArray[Any]],
    tokenizer: Tokenizer,
    preprocess: PreprocessConfig,
    card: str,
    trained_on: Sketch | None = None,
    hubs: Hubs | None = None,
) -> Path:
    """Write a bundle whole or not at all; a bundle already there is replaced at the end.

    Raises:
        UserError: the disk is full or not writable, or the folder holds something else.
    """
    from safetensors.numpy import save_file

    if folder.exists() and any(folder.iterdir()) and not (folder / "config.json").is_file():
        raise UserError(f"{folder}: holds other files; choose an empty folder for the bundle.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.", ignore_cleanup_errors=True) as place:
            temporary = Path(place)
            arrays = {name: value.copy(order="C") for name, value in weights.items()}  # a scalar stays one
            save_file(arrays, temporary / "model.safetensors", metadata={"format": "pt"})
            for name, text in {
                "config.json": json.dumps(config.model_dump(mode="json"), indent=2) + "\n",
                "preprocessor_config.json": json.dumps(preprocess.to_hugging_face(), indent=2) + "\n",
                "tokenizer.json": tokenizer.to_json(),
                "README.md": card,
            }.items():
                (temporary / name).write_bytes(encode_text(text))
            if trained_on is not None:
                trained_on.save(temporary)
            if hubs is not None:
                (temporary / HUBS).write_bytes(hubs.to_bytes())
            (temporary / "model.safetensors").chmod(0o644)
            temporary.chmod(0o755)
            _replace_folder(temporary, folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    except Exception as error:
        if type(error).__name__ == "SafetensorError":  # its write errors are not OSError
            raise cannot_write(folder, OSError(0, str(error))) from error
        raise
    return folder


def _replace_folder(new: Path, old: Path) -> None:
    """Put `new` where `old` stands; folders cannot be replaced in one step, so the old one is moved aside first."""
    aside = old.with_name(f".{old.name}.old-{os.getpid()}")
    if old.exists():
        old.replace(aside)
    try:
        new.replace(old)
    except OSError:
        if aside.exists():
            aside.replace(old)
        raise
    shutil.rmtree(aside, ignore_errors=True)
