"""Random erasing (https://arxiv.org/abs/1708.04896), and a shift as padding and cropping give it."""

import math

import numpy as np

from pocketclip.data.pictures.decode import Pixels

Shares = tuple[float, float, float, float]
"""Left, top, right and bottom of a part, as shares of a view's width and height."""
AREA = (0.02, 0.4)
"""Share of a view that is erased, at least and at most."""
RATIO = (0.3, 3.3)
"""Height to width of that part, in pixels."""


def draw_erased(random: np.random.Generator, aspect: float = 1.0) -> Shares | None:
    """A part to erase of a view with this width to height; None where none of ten fits."""
    for _ in range(10):
        area = random.uniform(*AREA)
        ratio = math.exp(random.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        ratio *= aspect  # from pixels to shares
        high, wide = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if high < 1 and wide < 1:
            left, top = random.uniform(0, 1 - wide), random.uniform(0, 1 - high)
            return left, top, left + wide, top + high
    return None


def erased(pixels: Pixels, part: Shares, colour: tuple[float, float, float]) -> Pixels:
    """With a part in one colour, given as shares of white: the mean of a tower's pixels, so that it sees nothing."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = part
    pixels = pixels.copy()
    rows, columns = slice(round(top * height), round(bottom * height)), slice(round(left * width), round(right * width))
    pixels[rows, columns] = np.round(255 * np.array(colour)).astype(np.uint8)
    return pixels


def shifted(pixels: Pixels, shift: tuple[float, float]) -> Pixels:
    """Moved to the right and down, by shares of the width, with black coming in."""
    width = pixels.shape[1]
    x, y = round(shift[0] * width), round(shift[1] * width)
    moved = np.zeros_like(pixels)
    kept = pixels[max(0, -y) : pixels.shape[0] - max(0, y), max(0, -x) : width - max(0, x)]
    moved[max(0, y) :, max(0, x) :][: kept.shape[0], : kept.shape[1]] = kept
    return moved
