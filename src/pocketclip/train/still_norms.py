"""Batch norms that stand still, as part of the convolution before them.

With `train.batch_norm: frozen`, or in a frozen tower, a batch norm multiplies each channel by one number and adds
another. A step that multiplies the convolution's kernels instead has the same output and the same gradients, those of
the batch norm's own weight and bias, too, and spares two passes over every feature map and the memory of one
(`benchmarks/still_norms.py`). Weights, names and checkpoints stay as they are.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.running.reparam import activation_of, example_for, foldable_norms

COPYING = (nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.SiLU, nn.Mish)
"""Activations whose backward pass needs what they were given, of which they keep a copy where they work in place."""


@dataclass(frozen=True)
class StillNorms:
    """Batch norms that can be a part of the convolution before them."""

    pairs: Sequence[tuple[nn.Conv2d, nn.BatchNorm2d]] = ()

    @classmethod
    def of(cls, model: DualEncoder) -> Self:
        """Those of a model's image tower."""
        tower, pairs = model.image_encoder, []
        if any(isinstance(module, nn.BatchNorm2d) and not module.training for module in tower.modules()):
            for before, after in foldable_norms(tower, example_for(model)):
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
