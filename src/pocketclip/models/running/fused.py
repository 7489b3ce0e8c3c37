"""A convolution and the activation behind it in one call of oneDNN, for inference on a CPU.

Nothing is compiled, so nothing has to be set up. In bfloat16 it is more exact too: the bias stays in float32.
"""

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip.models.running.reparam import agree

ACTIVATIONS: dict[type[nn.Module], tuple[str, tuple[float, ...], str]] = {
    nn.Identity: ("none", (), ""),
    nn.ReLU: ("relu", (), ""),
    nn.ReLU6: ("hardtanh", (0.0, 6.0), ""),
    nn.Hardswish: ("hardswish", (), ""),
    nn.SiLU: ("swish", (), ""),
    nn.GELU: ("gelu", (), "none"),
}
"""What oneDNN calls them: attribute, scalars, algorithm."""


class FusedConvolution(nn.Module):
    """A convolution that pads with zeros, or timm's `Conv2dSame`, with one of `ACTIVATIONS` behind it."""

    def __init__(self, convolution: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.is_same = type(convolution) is not nn.Conv2d
        self.stride, self.dilation, self.groups = convolution.stride, convolution.dilation, convolution.groups
        self.padding = [0, 0] if self.is_same else [int(size) for size in convolution.padding]
        self.activation = ACTIVATIONS[type(activation)]

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W'), activated."""
        images = images.to(self.weight.dtype)
        if self.is_same:
            images = self._pad(images)
        shape = (self.padding, self.stride, self.dilation, self.groups)
        output: Tensor = torch.ops.mkldnn._convolution_pointwise(
            images, self.weight, self.bias, *shape, *self.activation
        )
        return output

    def _pad(self, images: Tensor) -> Tensor:
        """Zeros around the images as TensorFlow's SAME places them.

        `F.pad` writes zeros everywhere before it copies the images, which took 9 % of EfficientNet-Lite0's time.
        """
        height, width = images.shape[-2:]
        sizes = (height, width), self.weight.shape[-2:], self.stride, self.dilation
        (top, bottom), (left, right) = map(_same_padding, *sizes)
        if not (top or bottom or left or right):
            return images
        if not images.is_contiguous(memory_format=torch.channels_last):
            return F.pad(images, (left, right, top, bottom))
        size = (*images.shape[:2], top + height + bottom, left + width + right)
        padded = torch.empty(size, dtype=images.dtype, memory_format=torch.channels_last)
        padded[:, :, :top].zero_()
        padded[:, :, top + height :].zero_()
        padded[:, :, :, :left].zero_()
        padded[:, :, :, left + width :].zero_()
        padded[:, :, top : top + height, left : left + width].copy_(images)
        return padded


def _same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def fuse_activations(tower: nn.Module, example: Tensor) -> nn.Module:
    """A copy of a CPU tower in which each convolution has taken in the activation that directly follows it.

    Pairs are found by running `example`, and the result is checked on it: where it differs by more than
    `reparam.TOLERANCE`, the tower itself is returned. It has to be in evaluation mode and float32.
    """
    if example.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return tower
    # Tensors of inference mode would not tell whether they were changed in place
    with torch.inference_mode(False), torch.no_grad():
        pairs, expected = _find_pairs(tower, example)
        fused = copy.deepcopy(tower)
        for name, activation in pairs.items():
            convolution = fused.get_submodule(name)
            assert isinstance(convolution, nn.Conv2d)
            follows = fused.get_submodule(activation) if activation else nn.Identity()
            fused.set_submodule(name, FusedConvolution(convolution, follows))
            if activation:
                fused.set_submodule(activation, nn.Identity())
        try:
            actual = fused(example)
        except (RuntimeError, AttributeError):  # a torch whose oneDNN lacks the operator or one of its attributes
            return tower
    return fused if agree(actual, expected) else tower


def _find_pairs(tower: nn.Module, example: Tensor) -> tuple[dict[str, str], Tensor]:
    """Names of convolutions with those of the activations that got their outputs, or "", and the tower's output."""
    made_by: dict[int, tuple[str, int]] = {}  # with the version, which a residual's addition in place raises
    kept: list[Any] = []  # so that no id is given twice
    pairs: dict[str, str] = {}
    hooks = []

    def remember(name: str, _: nn.Module, __: Any, output: Tensor) -> None:
        pairs[name] = ""
        made_by[id(output)] = name, output._version
        kept.append(output)

    def look(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        convolution, version = made_by.pop(id(inputs[0]), ("", 0))
        if convolution and inputs[0]._version == version:
            pairs[convolution] = name

    for name, module in tower.named_modules():
        if isinstance(module, nn.Conv2d) and _can_fuse(module):
            hooks.append(module.register_forward_hook(partial(remember, name)))
        elif _can_be_taken_in(module):
            hooks.append(module.register_forward_pre_hook(partial(look, name)))
    try:
        output: Tensor = tower(example)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs, output


def _can_be_taken_in(module: nn.Module) -> bool:
    if isinstance(module, nn.GELU) and module.approximate != "none":
        return False
    return type(module) in ACTIVATIONS and not isinstance(module, nn.Identity)


def _can_fuse(convolution: nn.Conv2d) -> bool:
    if convolution.bias is None or convolution.padding_mode != "zeros":
        return False
    if type(convolution) is nn.Conv2d:
        return not isinstance(convolution.padding, str)
    return type(convolution).__name__ == "Conv2dSame"
