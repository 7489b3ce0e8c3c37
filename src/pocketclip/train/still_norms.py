"""Batch norms that stand still, as part of the convolution before them.

With `train.batch_norm: frozen`, or in a frozen tower, a batch norm multiplies each channel by one number and adds
another. A step that multiplies the convolution's kernels instead has the same output and the same gradients, those of
the batch norm's own weight and bias, too, and spares two passes over every feature map and the memory of one
(`benchmarks/still_norms.py`). Weights, names and checkpoints stay as they are.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Self, TypeVar

import torch
from torch import Tensor, nn

from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.running.reparam import activation_of, example_for, foldable_norms

Tower = TypeVar("Tower", bound=nn.Module)
COPYING = (nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.SiLU, nn.Mish)
"""Activations whose backward pass needs what they were given, of which they keep a copy where they work in place."""


@dataclass(frozen=True)
class StillNorms:
    """Batch norms that can be a part of the convolution before them."""

    pairs: Sequence[tuple[nn.Conv2d, nn.BatchNorm2d]] = ()

    @classmethod
    def of(cls, model: DualEncoder) -> Self:
        """Those of a model's image tower; none of a tower that torch.compile fuses itself."""
        tower, pairs = model.image_encoder, []
        if tower._compiled_call_impl is not None:
            return cls()
        if any(isinstance(module, nn.BatchNorm2d) and not module.training for module in tower.modules()):
            for before, after in foldable_norms(told_apart(tower), example_for(model)):
                pairs.append((tower.get_submodule(before), tower.get_submodule(after)))
        return cls(pairs)  # type: ignore[arg-type]

    @contextmanager
    def folded(self) -> Iterator[None]:
        """Within, a forward pass computes those that are in evaluation mode now with their convolution."""
        still = [(convolution, norm) for convolution, norm in self.pairs if not norm.training]
        in_place = [part for _, norm in still for part in norm.modules() if isinstance(part, COPYING) and part.inplace]
        try:
            for convolution, norm in still:
                convolution.forward = partial(_convolved, convolution, norm)  # type: ignore[method-assign]
                norm.forward = activation_of(norm).forward  # type: ignore[method-assign]
            for part in in_place:
                part.inplace = False
            yield
        finally:
            for part in in_place:
                part.inplace = True
            for module in (module for pair in still for module in pair):
                module.__dict__.pop("forward", None)


@torch.no_grad()
def told_apart(tower: Tower) -> Tower:
    """A copy of a tower no two batch norms of which do the same.

    One that has learned nothing yet does nothing, so it would seem to be a part of any convolution.
    """
    copied, random = copy.deepcopy(tower), torch.Generator().manual_seed(0)
    for norm in copied.modules():
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
            continue
        drawn = torch.rand(4, norm.num_features, generator=random).to(norm.running_mean)  # between 0 and 1
        norm.running_mean.add_((drawn[0] - 0.5) * norm.running_var.sqrt() / 4)
        norm.running_var.mul_(0.8 + 0.4 * drawn[1])
        if norm.affine:
            norm.weight.mul_(0.8 + 0.4 * drawn[2]).add_(0.1 * drawn[2])  # some begin with 0
            norm.bias.add_((drawn[3] - 0.5) / 4)
    return copied


def _convolved(convolution: nn.Conv2d, norm: nn.BatchNorm2d, images: Tensor) -> Tensor:
    """A convolution and its batch norm, without what is behind that."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = torch.rsqrt(norm.running_var + norm.eps)
    factor = factor if norm.weight is None else factor * norm.weight
    mean = norm.running_mean if convolution.bias is None else norm.running_mean - convolution.bias
    shift = -mean * factor if norm.bias is None else norm.bias - mean * factor
    # Attributes of a module hide its parameters from its own forward pass, whatever that does about padding
    hiding = convolution.__dict__
    hiding["weight"], hiding["bias"] = convolution.weight * factor[:, None, None, None], shift
    try:
        output: Tensor = type(convolution).forward(convolution, images)
    finally:
        del hiding["weight"], hiding["bias"]
    return output
