"""Weights from files: read with safetensors or `torch.load(weights_only=True)`, never as arbitrary pickle."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pocketclip.errors import UserError, first_line
from pocketclip.image_size import ImageSize
from pocketclip.models.tower import ImageTower


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a `.safetensors`, or from a `.pth`, `.pt` or `.bin` read without arbitrary pickle.

    A training checkpoint that nests them under `state_dict` or `model` is unwrapped.

    Raises:
        UserError: missing, damaged, or holding more than tensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such weights file.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both libraries have errors of their own
        reason = first_line(error)
        if isinstance(error, pickle.UnpicklingError):  # torch's own message advises to read it all the same
            reason = "damaged, or holding more than tensors; save a state_dict() alone, as .safetensors"
        raise UserError(f"{path}: cannot read weights from this file ({reason}).") from error
    for key in ("state_dict", "model"):
        if isinstance(values, dict) and isinstance(values.get(key), dict):
            values = values[key]
    if not isinstance(values, dict) or not all(isinstance(value, Tensor) for value in values.values()):
        raise UserError(f"{path}: should hold tensors by name.")
    return {name.removeprefix("module."): value for name, value in values.items()}


def load_weights(
    module: nn.Module, weights: Mapping[str, Tensor], *, place: str, ignore: str | tuple[str, ...] = ""
) -> None:
    """Fill a module from tensors by name, which come from `place`; every one of its own must be there.

    Names that begin with `ignore`, which is one prefix or several, are of no use to it, such as a classifier's.

    Raises:
        UserError: names or shapes do not fit; the first few are listed.
    """
    kept = {name: value for name, value in weights.items() if not (ignore and name.startswith(ignore))}
    whats = ("lacks", "has no place for", "has wrong shapes:")
    for what, names in zip(whats, misfits(module.state_dict(), kept), strict=True):
        if names:
            raise UserError(f"{place}: the weights do not fit this tower; the file {what} {shortened(names, 3)}.")
    module.load_state_dict(kept)


def at_size(tower: ImageTower, weights: Mapping[str, Tensor], size: ImageSize) -> dict[str, Tensor]:
    """A model's weights, whose image tower learned them at this size, for one that has the tower at another."""
    part = "image_encoder."
    own = {name.removeprefix(part): value for name, value in weights.items() if name.startswith(part)}
    return {**weights, **{f"{part}{name}": value for name, value in tower.resampled(own, size).items()}}


def misfits(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> tuple[list[str], list[str], list[str]]:
    """Names of a module's own tensors that are not given, given ones that it has not, and those of other shapes."""
    shapes = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in given and given[name].shape != value.shape
    ]
    return [name for name in own if name not in given], [name for name in given if name not in own], shapes


def shortened(names: list[str], count: int) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
