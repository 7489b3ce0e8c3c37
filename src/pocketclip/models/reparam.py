"""The same function with fewer layers: batch norms folded into the convolutions before them."""

import copy
import itertools

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

TOLERANCE = 1e-4
"""Largest change of a folded tower's output, relative to the output's largest value, in float32."""


def fold_batch_norms(tower: nn.Module, example: Tensor) -> nn.Module:
    """A copy of a tower for inference, in which each batch norm is part of the convolution before it.

    Pairs are found by the order of registration, which in all convolutional timm towers is the order of execution,
    and the result is checked on `example`: where it differs, the tower is returned unfolded.

    Args:
        tower: in evaluation mode or not; it is left as it is.
        example: one input, such as a small batch of noise.

    Returns:
        A tower in evaluation mode.
    """
    plain = copy.deepcopy(tower).eval()
    folded = copy.deepcopy(plain)
    modules = dict(folded.named_modules())
    order = [name for name, module in modules.items() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))]
    num_folded = 0
    for before, after in itertools.pairwise(order):
        convolution, norm = modules[before], modules[after]
        if not isinstance(convolution, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
            continue
        if convolution.out_channels != norm.num_features or norm.running_mean is None:
            continue
        folded.set_submodule(before, fuse_conv_bn_eval(convolution, norm))
        folded.set_submodule(after, _activation_of(norm))
        num_folded += 1
    if num_folded == 0:
        return plain
    with torch.inference_mode():
        expected, actual = plain(example).float(), folded(example).float()
    if (expected - actual).abs().max() > TOLERANCE * expected.abs().max().clamp(min=1e-6):
        return plain
    return folded.to(memory_format=torch.channels_last)


def _activation_of(norm: nn.BatchNorm2d) -> nn.Module:
    """What is left of a batch norm once folded: timm's BatchNormAct2d also drops and activates."""
    parts = [getattr(norm, name) for name in ("drop", "act") if isinstance(getattr(norm, name, None), nn.Module)]
    kept = [part for part in parts if not isinstance(part, nn.Identity)]
    return nn.Sequential(*kept) if kept else nn.Identity()
