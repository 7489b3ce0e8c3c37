"""SimCLR's colour distortion and blur, each a name and a number that can be stored, as RandAugment's operations are.

Reference: SimCLR, https://arxiv.org/abs/2002.05709, appendix A, with the strengths of SLIP,
https://arxiv.org/abs/2112.12750.
"""

from collections.abc import Callable
from typing import Annotated

import numpy as np
from PIL import Image, ImageFilter
from pydantic import Field

from pocketclip.config import Config

Chance = Annotated[float, Field(ge=0, le=1)]
BLUR = (0.1 / 224, 2.0 / 224)
"""Least and most sigma of a blur, in shares of the side: 0.1 to 2 pixels of 224."""


class ColorJitterConfig(Config):
    """Colours changed in random order, then at times no colours, then at times a blur."""

    brightness: Chance = 0.4
    """Drawn between 1 minus this and 1 plus this; likewise the next two."""
    contrast: Chance = 0.4
    saturation: Chance = 0.4
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """At most, in turns of the colour circle, in either direction."""
    probability: Chance = 0.8
    """Share of the pictures whose colours change."""
    grayscale: Chance = 0.2
    """Share of the pictures that lose their colours."""
    blur: Chance = 0.5
    """Share of the pictures that are blurred."""


def _turned(image: Image.Image, turn: float) -> Image.Image:
    """Every hue moved round the colour circle by a share of it."""
    hue, saturation, value = image.convert("HSV").split()
    moved = (np.asarray(hue).astype(np.int16) + int(turn * 255)) % 256
    turned = Image.merge("HSV", (Image.fromarray(moved.astype(np.uint8)), saturation, value))
    return turned.convert("RGB")


COLOR_OPERATIONS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "hue": _turned,
    "grayscale": lambda image, _: image.convert("L").convert("RGB"),
    "blur": lambda image, share: image.filter(ImageFilter.GaussianBlur(share * image.width)),
}
"""Beside brightness, contrast and color (saturation), which RandAugment has too."""


def draw_jitter(config: ColorJitterConfig, random: np.random.Generator) -> tuple[tuple[str, float], ...]:
    """The operations of one picture, in their order."""
    drawn: list[tuple[str, float]] = []
    if random.random() < config.probability:
        limits = {"brightness": config.brightness, "contrast": config.contrast, "color": config.saturation}
        limits["hue"] = config.hue
        names = list(limits)
        for number in random.permutation(len(names)):
            limit = limits[names[number]]
            drawn.append((names[number], round(random.uniform(-limit, limit), 6)))
    if random.random() < config.grayscale:
        drawn.append(("grayscale", 0.0))
    if random.random() < config.blur:
        drawn.append(("blur", round(random.uniform(*BLUR), 6)))
    return tuple(drawn)
