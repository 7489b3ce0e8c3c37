"""RandAugment's fourteen operations on Pillow's pictures, each a name and a number that can be stored.

A number means the same at any size: lengths are shares of the side. RandAugment, https://arxiv.org/abs/1909.13719, with
the ranges that torchvision and timm use. Their own draw from the generators of the process and apply at once, so that
what was drawn could neither be stored nor be rendered again at another size.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from pydantic import Field, PositiveInt

from pocketclip.config import Config
from pocketclip.data.pictures.color_jitter import COLOR_OPERATIONS
from pocketclip.errors import unknown_choice

STRONGEST = 30
"""The largest magnitude; others are linear parts of what it does."""
Operation = tuple[str, float]
"""A name of `OPERATIONS` and its signed strength."""


class RandAugmentConfig(Config):
    """RandAugment, https://arxiv.org/abs/1909.13719."""

    num_ops: PositiveInt = 2
    magnitude: int = Field(default=9, ge=0, le=STRONGEST)


def _warped(image: Image.Image, matrix: tuple[float, float, float, float, float, float]) -> Image.Image:
    """Each pixel from where the matrix says, black from outside."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


OPERATIONS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "identity": lambda image, _: image,
    "shear_x": lambda image, slope: _warped(image, (1, slope, 0, 0, 1, 0)),
    "shear_y": lambda image, slope: _warped(image, (1, 0, 0, slope, 1, 0)),
    "translate_x": lambda image, share: _warped(image, (1, 0, -round(share * image.width), 0, 1, 0)),
    "translate_y": lambda image, share: _warped(image, (1, 0, 0, 0, 1, -round(share * image.height))),
    "rotate": lambda image, degrees: image.rotate(degrees, Image.Resampling.NEAREST),
    "brightness": lambda image, change: ImageEnhance.Brightness(image).enhance(1 + change),
    "color": lambda image, change: ImageEnhance.Color(image).enhance(1 + change),
    "contrast": lambda image, change: ImageEnhance.Contrast(image).enhance(1 + change),
    "sharpness": lambda image, change: ImageEnhance.Sharpness(image).enhance(1 + change),
    "posterize": lambda image, bits: ImageOps.posterize(image, round(bits)),
    "solarize": lambda image, threshold: ImageOps.solarize(image, round(255 * threshold)),
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
}

_SIGNED = {"shear_x": 0.3, "shear_y": 0.3, "translate_x": 150 / 331, "translate_y": 150 / 331, "rotate": 30.0}
_SIGNED |= dict.fromkeys(("brightness", "color", "contrast", "sharpness"), 0.9)
"""What the strongest magnitude does, in either direction."""


def draw_operations(config: RandAugmentConfig, random: np.random.Generator) -> tuple[Operation, ...]:
    """`num_ops` operations, each any of the fourteen with equal chance; signs are even."""
    share, names = config.magnitude / STRONGEST, list(OPERATIONS)
    drawn = []
    for _ in range(config.num_ops):
        name = names[int(random.integers(len(names)))]
        strength = 0.0
        if name in _SIGNED:
            strength = round(share * _SIGNED[name], 6) * (1 if random.random() < 0.5 else -1)
        elif name == "posterize":
            strength = float(round(8 - 4 * share))  # bits kept
        elif name == "solarize":
            strength = round(1 - share, 6)  # brighter than this share of white is turned round
        drawn.append((name, strength))
    return tuple(drawn)


def apply_operation(image: Image.Image, operation: Operation) -> Image.Image:
    """One operation on an RGB picture, of RandAugment or of colour jitter; the size stays."""
    name, strength = operation
    known = OPERATIONS | COLOR_OPERATIONS
    if name not in known:
        raise unknown_choice("operation of a stored view", name, known)
    return known[name](image, strength)
