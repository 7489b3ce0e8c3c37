"""CLIP's modified ResNet in any width, as TinyCLIP has it; timm rounds widths such as 44 to multiples of eight."""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip.image_size import ImageSize, height_and_width
from pocketclip.models.image.pixels import PixelTower
from pocketclip.models.image.timm_layers import resample_positions
from pocketclip.models.tower import Checkpointed
from pocketclip.preprocess import PreprocessConfig

EXPANSION = 4
HEAD_WIDTH = 64
STRIDE = 32
"""Pixels of the picture to a side of the last map's."""


class Bottleneck(nn.Module):
    """Three convolutions and a skip; a stride is an average over it before the last convolution."""

    def __init__(self, num_inputs: int, width: int, stride: int) -> None:
        super().__init__()
        num_outputs = EXPANSION * width
        self.conv1, self.bn1 = nn.Conv2d(num_inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, num_outputs, 1, bias=False), nn.BatchNorm2d(num_outputs)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.act1, self.act2, self.act3 = (nn.ReLU(inplace=True) for _ in range(3))
        self.skip = nn.Sequential()
        if stride > 1 or num_inputs != num_outputs:
            convolution = nn.Conv2d(num_inputs, num_outputs, 1, bias=False)
            self.skip = nn.Sequential(nn.AvgPool2d(stride), convolution, nn.BatchNorm2d(num_outputs))
        nn.init.zeros_(self.bn3.weight)  # a block begins as its skip, as in CLIP

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        """A map to the next."""
        hidden = self.act1(self.bn1(self.conv1(images)))
        hidden = self.act2(self.bn2(self.conv2(hidden)))
        output: Tensor = self.act3(self.bn3(self.conv3(self.pool(hidden))) + self.skip(images))
        return output


class AttentionPool(nn.Module):
    """The average of a map's places attends to them and to itself; CLIP computes all attention and keeps this one."""

    def __init__(self, width: int, num_places: int) -> None:
        super().__init__()
        self.num_heads = width // HEAD_WIDTH
        self.position_embedding = nn.Parameter(torch.randn(num_places + 1, width) / width**0.5)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        for layer in (self.query, self.key, self.value):
            nn.init.normal_(layer.weight, std=width**-0.5)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C"]:
        """CLIP's last projection is not here but the model's image head."""
        places = images.flatten(2).transpose(1, 2)
        places = torch.cat([places.mean(1, keepdim=True), places], dim=1) + self.position_embedding
        query, key, value = (
            layer(states).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for layer, states in ((self.query, places[:, :1]), (self.key, places), (self.value, places))
        )
        return F.scaled_dot_product_attention(query, key, value).flatten(1)


class ClipResNetEncoder(Checkpointed, PixelTower):
    """A picture to one feature; the arguments are the settings of `ClipResNetEncoderConfig` that shape it."""

    def __init__(
        self, preprocess: PreprocessConfig, *, width: int, num_blocks: Sequence[int], frozen_layers: int
    ) -> None:
        super().__init__(preprocess)
        half, stem = width // 2, []
        for num_inputs, num_outputs, stride in ((3, half, 2), (half, half, 1), (half, width, 1)):
            convolution = nn.Conv2d(num_inputs, num_outputs, 3, stride=stride, padding=1, bias=False)
            stem += [convolution, nn.BatchNorm2d(num_outputs), nn.ReLU(inplace=True)]
        self.stem = nn.Sequential(*stem, nn.AvgPool2d(2))
        self.stages, num_inputs = nn.ModuleList(), width
        for number, count in enumerate(num_blocks):
            inner, first = width * 2**number, 1 if number == 0 else 2
            blocks = [Bottleneck(num_inputs, inner, first)]
            num_inputs = EXPANSION * inner
            blocks += [Bottleneck(num_inputs, inner, 1) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(*blocks))
        self.pool = AttentionPool(num_inputs, math.prod(side // STRIDE for side in preprocess.shape))
        self.feature_dim = num_inputs
        self.to(memory_format=torch.channels_last)
        self.frozen_modules = self.layers_in_order[:frozen_layers]
        self.settings = {"kind": "clip_resnet", "width": width, "num_blocks": num_blocks}

    @property
    def layers_in_order(self) -> list[nn.Module]:
        return [self.stem, *self.stages]

    def resampled(self, weights: Mapping[str, Tensor], size: ImageSize) -> dict[str, Tensor]:
        name = "pool.position_embedding"
        if name not in weights:
            return dict(weights)
        old, new = ([side // STRIDE for side in sides] for sides in (height_and_width(size), self.preprocess.shape))
        return {**weights, name: resample_positions(weights[name][None], old, new, num_prefix_tokens=1)[0]}

    def forward(self, images: Shaped[Tensor, "B 3 H W"]) -> Float[Tensor, "B F"]:
        """One feature an image, not normalised; images are bytes, or floats normalised with `preprocess`."""
        states = self.stem(self.normalise(images))
        for stage in self.stages:
            states = self.run_layer(stage, states)
        pooled: Tensor = self.pool(states)
        return pooled
