"""Where drawn pedestrians walk: streets, and what stands in front of people."""

import functools
import random

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

HEIGHT, WIDTH = 384, 128
NUM_STREETS = 24


def view_of_street(chance: random.Random, ground: float) -> npt.NDArray[np.uint8]:
    """A part of one of the streets, so that the feet stand on its pavement."""
    street = _street(chance.randrange(NUM_STREETS))
    left = chance.randrange(street.shape[1] - WIDTH)
    horizon = ground - chance.uniform(0.2, 0.42) * HEIGHT
    first = min(max(0, round(_HORIZON - horizon)), street.shape[0] - HEIGHT)
    part = street[first : first + HEIGHT, left : left + WIDTH]
    return (part[:, ::-1] if chance.random() < 0.5 else part).copy()


_HORIZON = 330
"""Row of a street's picture where the ground begins."""


@functools.cache
def _street(number: int) -> npt.NDArray[np.uint8]:
    """A street of 640 x 512: walls, shops, trees or grass above a pavement, a little out of focus."""
    chance = random.Random(f"street {number}")
    wide, high = 512, 640
    image = Image.new("RGB", (wide, high), _gray(chance, 130, 215))
    draw = ImageDraw.Draw(image)
    (_houses, _park, _shops, _wall)[number % 4](draw, chance, wide)
    _pavement(draw, chance, wide, high)
    soft = image.filter(ImageFilter.GaussianBlur(chance.uniform(1.0, 2.2)))
    grain = np.random.default_rng(number).standard_normal((high, wide, 1)) * 3
    return (np.asarray(soft, np.float32) + grain).clip(0, 255).astype(np.uint8)


def _gray(chance: random.Random, low: int, high: int, tint: int = 14) -> tuple[int, int, int]:
    value = chance.randint(low, high)
    return tuple(min(255, max(0, value + chance.randint(-tint, tint))) for _ in range(3))  # type: ignore[return-value]


def _pavement(draw: ImageDraw.ImageDraw, chance: random.Random, wide: int, high: int) -> None:
    base, slabs = _gray(chance, 96, 186, 8), chance.random() < 0.6
    for top in range(_HORIZON, high, 4):
        near = (top - _HORIZON) / (high - _HORIZON)
        draw.rectangle((0, top, wide, top + 3), fill=tuple(round(value * (0.82 + 0.26 * near)) for value in base))
    line = tuple(round(value * 0.8) for value in base)
    if slabs:
        row, step = float(_HORIZON + 6), 7.0
        while row < high:
            draw.line((0, row, wide, row), fill=line, width=2)
            row, step = row + step, step * 1.22
        for x in range(-400, wide + 400, 64):
            draw.line((wide / 2 + (x - wide / 2) * 0.5, _HORIZON, x * 1.6 - wide * 0.3, high), fill=line, width=2)
    else:
        stripe = (226, 226, 220) if chance.random() < 0.5 else (220, 190, 90)
        for number in range(4):
            y = _HORIZON + 40 + number * 64
            draw.polygon([(0, y), (wide, y + 10), (wide, y + 34), (0, y + 22)], fill=stripe if number % 2 else base)
    draw.rectangle((0, _HORIZON - 6, wide, _HORIZON + 4), fill=tuple(round(value * 0.62) for value in base))


def _houses(draw: ImageDraw.ImageDraw, chance: random.Random, wide: int) -> None:
    x = -20
    while x < wide:
        width = chance.randint(90, 190)
        wall = chance.choice([(176, 120, 96), (198, 184, 160), (150, 156, 164), (206, 200, 190), (136, 110, 100)])
        draw.rectangle((x, 0, x + width, _HORIZON), fill=wall)
        glass = (64, 82, 98)
        for row in range(20, _HORIZON - 60, 74):
            for column in range(x + 14, x + width - 30, 46):
                draw.rectangle((column - 3, row - 3, column + 29, row + 49), fill=tuple(min(255, v + 30) for v in wall))
                draw.rectangle((column, row, column + 26, row + 46), fill=glass)
        door = x + chance.randint(16, width - 46)
        draw.rectangle((door, _HORIZON - 92, door + 38, _HORIZON), fill=(70, 52, 44))
        draw.line((x, 0, x, _HORIZON), fill=(70, 70, 70), width=3)
        x += width


def _park(draw: ImageDraw.ImageDraw, chance: random.Random, wide: int) -> None:
    draw.rectangle((0, 0, wide, 130), fill=(192, 212, 232))
    for _ in range(46):
        x, y, size = chance.randint(-20, wide), chance.randint(30, 230), chance.randint(26, 66)
        green = chance.randint(70, 130)
        draw.ellipse((x, y, x + size * 2, y + size * 1.5), fill=(green // 2 + 10, green, green // 3 + 20))
    for _ in range(5):
        x = chance.randint(0, wide)
        draw.rectangle((x, 150, x + chance.randint(9, 18), _HORIZON), fill=(88, 66, 48))
    draw.rectangle((0, 262, wide, _HORIZON), fill=(104, 138, 74))


def _shops(draw: ImageDraw.ImageDraw, chance: random.Random, wide: int) -> None:
    draw.rectangle((0, 0, wide, 120), fill=_gray(chance, 150, 210))
    x = -30
    while x < wide:
        width = chance.randint(110, 200)
        sign = chance.choice([(150, 44, 44), (40, 84, 130), (46, 110, 70), (196, 150, 60), (70, 70, 78)])
        draw.rectangle((x, 96, x + width - 4, 140), fill=sign)
        for letter in range(x + 16, x + width - 24, 17):
            draw.rectangle((letter, 108, letter + 10, 128), fill=(236, 232, 220))
        draw.rectangle((x, 140, x + width - 4, _HORIZON), fill=(54, 62, 70))
        for _ in range(9):
            left, top = x + chance.randint(6, max(7, width - 40)), chance.randint(160, 280)
            draw.rectangle((left, top, left + chance.randint(10, 30), top + chance.randint(12, 44)),
                           fill=_gray(chance, 90, 200, 40))  # fmt: skip
        draw.polygon([(x, 140), (x + 26, 140), (x - 14, _HORIZON), (x - 40, _HORIZON)], fill=(84, 94, 104))
        x += width


def _wall(draw: ImageDraw.ImageDraw, chance: random.Random, wide: int) -> None:
    base = chance.choice([(150, 96, 78), (176, 172, 164), (128, 134, 138), (190, 176, 146)])
    draw.rectangle((0, 0, wide, _HORIZON), fill=base)
    for row in range(0, _HORIZON, 18):
        for x in range(-20 + (row // 18 % 2) * 20, wide, 40):
            factor = chance.uniform(0.86, 1.1)
            draw.rectangle((x, row, x + 37, row + 15), fill=tuple(min(255, round(value * factor)) for value in base))
    if chance.random() < 0.7:
        left = chance.randint(0, wide - 130)
        draw.rectangle((left, 90, left + 110, 220), fill=_gray(chance, 70, 220, 50))
        draw.rectangle((left + 12, 104, left + 98, 150), fill=_gray(chance, 70, 220, 50))


def occlude(image: Image.Image, chance: random.Random) -> None:
    """Something that stands between camera and person: a post at a side, a rail, a hedge or a bin below."""
    draw, kind = ImageDraw.Draw(image), chance.choice(("post", "rail", "hedge", "bin"))
    if kind == "post":
        x, tone = chance.choice((chance.randint(6, 38), chance.randint(86, 118))), chance.randint(50, 110)
        draw.rectangle((x, 0, x + chance.randint(5, 10), HEIGHT), fill=(tone, tone, tone + 6))
        draw.line((x + 2, 0, x + 2, HEIGHT), fill=(tone + 50, tone + 50, tone + 54))
    elif kind == "rail":
        y, tone = chance.randint(300, 330), chance.randint(60, 130)
        for row in (y, y + 22):
            draw.rectangle((0, row, WIDTH, row + 4), fill=(tone, tone + 4, tone + 8))
        for x in range(chance.randint(0, 30), WIDTH, 44):
            draw.rectangle((x, y - 4, x + 4, HEIGHT), fill=(tone - 16, tone - 12, tone - 8))
    elif kind == "hedge":
        for _ in range(60):
            x, y, green = chance.randint(-10, WIDTH), chance.randint(340, HEIGHT), chance.randint(60, 120)
            draw.ellipse((x, y, x + 18, y + 14), fill=(green // 2, green, green // 3))
    else:
        x, y = chance.choice((chance.randint(-26, 4), chance.randint(92, 116))), chance.randint(270, 310)
        tone = chance.randint(40, 90)
        draw.rounded_rectangle((x, y, x + 42, HEIGHT + 8), 5, fill=(tone, tone + 12, tone + 6))
        draw.rectangle((x - 2, y, x + 44, y + 8), fill=(tone - 20, tone - 8, tone - 14))
