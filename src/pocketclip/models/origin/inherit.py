"""A smaller tower starts from a part of a larger one: some of its layers, and the leading slices of each axis.

Depth by interval, width by leading slices and attention by leading heads are what TinyCLIP calls manual inheritance,
https://arxiv.org/abs/2309.12314, section 3.2. What is kept computes what it did before wherever the rest adds nothing.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from pocketclip.bundle import read_bundle
from pocketclip.config import Config
from pocketclip.errors import UserError
from pocketclip.models.origin.weights import load_weights, read_state_dict
from pocketclip.models.tower import Tower

STACKS = (nn.ModuleList, nn.Sequential)
Layers = Literal["interval", "leading"] | tuple[int, ...]
"""As of `InheritConfig`."""
FUSED = {"qkv", "query_key_value", "in_proj_weight", "in_proj_bias"}
"""Layers and parameters that hold three in one, side by side along their first axis."""
WIDTHS_KNOWN = {
    *("VisionTransformer", "ResNet", "EfficientNet", "MobileNetV3", "ConvNeXt", "ByobNet", "FastVit"),
    *("BertModel", "RobertaModel", "XLMRobertaModel", "DistilBertModel", "ElectraModel", "MPNetModel"),
    *("CLIPTextModel", "CLIPTextTransformer", "ClipTextEncoder", "ClipResNetEncoder"),
}
"""Towers in which channel i of one layer meets channel i of the next, so that leading slices belong together."""
FINAL_NORMS = ("norm", "fc_norm")
"""What a tower of fewer blocks may leave out at its end."""
Pair = tuple[str, nn.Module, nn.Module]
PACKED = {"GluMlp"}
"""Modules that hold two layers in one in ways not known here."""


def tower_of_bundle(place: str, kind: type[Config], part: str) -> nn.Module:
    """A bundle's tower, whose config is of this kind, with its weights."""
    bundle = read_bundle(place)
    config: Any = kind.parse(bundle.config.model.get(part), place=f"{bundle.folder / 'config.json'}: model.{part}")
    encoder: Tower = config.build(load_pretrained=False)
    if bundle.config.model.get("shared_encoder") is not None:
        encoder.give_tokens()  # which lets go of what the bundle has no weights for
    every = read_state_dict(bundle.weights)
    weights = {name.removeprefix(f"{part}."): value for name, value in every.items() if name.startswith(f"{part}.")}
    load_weights(encoder, weights, place=str(bundle.weights))
    return encoder


@torch.no_grad()
def inherit(small: nn.Module, large: nn.Module, layers: Layers = "interval") -> None:
    """Fill a smaller tower, every parameter and statistic, from a larger one of the same make.

    At equal size both compute the same. Heads must be of one size; then each kept head gives what it gave, as long as
    its input does.

    Raises:
        UserError: the towers are built differently, or the smaller one is larger somewhere.
    """
    if type(small) is not type(large):
        raise UserError(f"inherit: a {type(small).__name__} takes nothing from a {type(large).__name__}.")
    if isinstance(layers, tuple) and len([*large.modules()]) <= len([*small.modules()]):
        raise UserError(f"inherit.layers: {list(layers)} has no effect; both towers have the same layers.")
    grids = [_grid(tower) for tower in (small, large)]
    if grids[0] != grids[1] and math.prod(grids[0]) == math.prod(grids[1]):
        raise UserError(f"inherit: the positions form a grid, of {grids[0]} here and of {grids[1]} there.")
    kind = type(small).__name__
    may_be_narrower = kind in WIDTHS_KNOWN and not any(type(module).__name__ in PACKED for module in small.modules())
    for path, one, other in _pairs(small, large, layers):
        if (sizes := [_head_size(one), _head_size(other)])[0] != sizes[1]:
            raise UserError(f"inherit: heads of {sizes[0]} cannot be taken from heads of {sizes[1]} ({path}).")
        for name, target in [*one.named_parameters(recurse=False), *one.named_buffers(recurse=False)]:
            source = getattr(other, name)
            if source.shape != target.shape and not may_be_narrower:
                raise UserError(f"inherit: this {kind} is not known to be cut in width, only in depth.")
            target.copy_(_leading(source, target, f"{path}.{name}".lstrip("."), one))


def _pairs(small: nn.Module, large: nn.Module, layers: Layers, path: str = "") -> Iterator[Pair]:
    """Modules of both that belong together, from the outside in."""
    yield path, small, large
    own, others = (
        {name: child for name, child in module.named_children() if child.state_dict()} for module in (small, large)
    )
    if not path:
        cut = {name for name in FINAL_NORMS if isinstance(getattr(small, name, None), nn.Identity)}
        others = {name: child for name, child in others.items() if name not in cut}
    if isinstance(small, STACKS) and isinstance(large, STACKS) and len(small) != len(large):
        places = _choose_layers(len(small), len(large), layers, path)
        others = {name: large.get_submodule(str(places[int(name)])) for name in own}
    for name in sorted({*own, *others}):
        inside = f"{path}.{name}".lstrip(".")
        one, other = own.get(name), others.get(name)
        if one is None or type(one) is not type(other):
            kinds = ["nothing" if module is None else type(module).__name__ for module in (one, other)]
            raise UserError(
                f"inherit: the towers are built differently: {inside} is {kinds[0]} here, {kinds[1]} there."
            )
        yield from _pairs(one, other, layers, inside)


def _choose_layers(num_small: int, num_large: int, layers: Layers, path: str) -> Sequence[int]:
    if num_small > num_large:
        raise UserError(f"inherit: {path} has {num_small} layers here and only {num_large} there.")
    if layers == "interval":
        return range(0, num_large, num_large // num_small)[:num_small]
    if layers == "leading":
        return range(num_small)
    if len(layers) != num_small or max(layers) >= num_large:
        raise UserError(
            f"inherit.layers: {path} needs {num_small} layers of 0 to {num_large - 1} (got {list(layers)}); "
            "for several stacks take interval or leading."
        )
    return layers


def _grid(tower: nn.Module) -> tuple[int, ...]:
    """Rows and columns of the places that a tower has learned a position for; empty where it has none."""
    if getattr(tower, "pos_embed", None) is not None:
        return tuple(getattr(getattr(tower, "patch_embed", None), "grid_size", ()))
    return tower.preprocess.shape if type(tower).__name__ == "ClipResNetEncoder" else ()  # type: ignore[return-value]


def _head_size(module: nn.Module) -> int | None:
    """Width of an attention's heads; None for other modules."""
    sizes = (getattr(module, name, None) for name in ("head_dim", "attention_head_size"))
    return next((size for size in sizes if isinstance(size, int)), None)


def _leading(source: Tensor, target: Tensor, name: str, module: nn.Module) -> Tensor:
    """The part of a larger tensor that a smaller one takes."""
    sizes = f"{name}: {tuple(target.shape)} here, {tuple(source.shape)} there"
    if source.ndim != target.ndim or any(one > other for one, other in zip(target.shape, source.shape, strict=True)):
        raise UserError(f"inherit: the smaller tower is larger in {sizes}.")
    if fixed := _axis_that_must_agree(source, target, name, module):
        raise UserError(f"inherit: the towers' {fixed} differ in {sizes}.")
    parts = 3 if FUSED.intersection(name.split(".")[-2:]) else 1
    pieces, rows = (torch.atleast_1d(values).unflatten(0, (parts, -1)) for values in (source, target))
    cut: Tensor = pieces[tuple(slice(size) for size in rows.shape)]
    return cut.reshape(target.shape)


def _axis_that_must_agree(source: Tensor, target: Tensor, name: str, module: nn.Module) -> str:
    """What a leading slice would tear apart; empty where it tears nothing."""
    if isinstance(module, _ConvNd):
        if source.shape[2:] != target.shape[2:]:
            return "kernels"
        if module.groups > 1 and source.ndim > 1 and source.shape[1] != target.shape[1]:
            return "channels a group"
    elif isinstance(module, nn.Embedding):
        if len(source) != len(target) and "position" not in name:
            return "vocabularies"
    elif type(module).__name__ == "AttentionPool" and len(source) != len(target):
        return "numbers of positions"  # they form a grid; give both towers the same image_size
    elif source.ndim == 3 and source.shape[1] != target.shape[1]:
        return "numbers of positions"
    return ""
