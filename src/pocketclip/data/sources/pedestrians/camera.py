"""A view of a drawn pedestrian: pose, crop, place, light and camera, drawn by chance."""

import functools
import io
import random

import numpy as np
import numpy.typing as npt
from PIL import Image

from pocketclip.data.sources.pedestrians import bags, clothes
from pocketclip.data.sources.pedestrians.figure import Figure, random_pose
from pocketclip.data.sources.pedestrians.head import draw_head
from pocketclip.data.sources.pedestrians.street import HEIGHT, WIDTH, occlude, view_of_street
from pocketclip.data.sources.pedestrians.world import Person

_OVER = 2
"""Pixels of the canvas for one of the picture, for smooth edges."""
Floats = npt.NDArray[np.float32]


def draw_pedestrian(person: Person, facing: str, chance: random.Random) -> bytes:
    """A view of somebody as a JPEG of `HEIGHT` x `WIDTH`; `chance` gives pose, crop, place, light and camera."""
    pose = random_pose(chance, facing)
    canvas = Image.new("RGBA", (WIDTH * _OVER, HEIGHT * _OVER), (70, 68, 66, 0))
    size = chance.uniform(0.8, 0.92) * person.height
    top = chance.uniform(0.02, max(0.03, 0.97 - size)) * HEIGHT * _OVER
    middle = (0.5 + chance.uniform(-0.09, 0.09)) * WIDTH * _OVER
    scale = size * HEIGHT * _OVER
    figure = Figure(canvas, person, pose, middle, top, scale)
    clothes.legs(figure)
    clothes.torso(figure)
    clothes.arms(figure)
    bags.bags(figure)
    draw_head(figure)
    figure.finish()
    ground = (top + scale * 0.985) / _OVER
    street = view_of_street(chance, ground)
    _cast_shadow(street, middle / _OVER, ground, scale / _OVER, pose.lit_from)
    image = Image.fromarray(street)
    alpha = canvas.getchannel("A").reduce(_OVER)
    image.paste(
        canvas.convert("RGB").reduce(_OVER), mask=alpha
    )  # apart: of all four together it takes four times as long
    return _encoded(_seen_by_camera(image, alpha, chance), chance)


def _encoded(image: Image.Image, chance: random.Random) -> bytes:
    if chance.random() < 0.22:
        occlude(image, chance)
    if (small := chance.choice((1.0, 1.0, 0.7, 0.5))) < 1:  # from a camera far away
        image = image.resize((round(WIDTH * small), round(HEIGHT * small)), Image.Resampling.BOX)
        image = image.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    output = io.BytesIO()
    image.save(output, "JPEG", quality=chance.randint(78, 95))
    return output.getvalue()


def _seen_by_camera(image: Image.Image, alpha: Image.Image, chance: random.Random) -> Image.Image:
    """With folds in the cloth, in brighter or dimmer, warmer or cooler light, a side in shade, and noise."""
    bright, warm = chance.uniform(0.72, 1.12), chance.uniform(-0.06, 0.06)
    across = np.linspace(1 - (slope := chance.uniform(-0.12, 0.12)), 1 + slope, WIDTH, dtype=np.float32)
    gain = np.asarray(alpha, np.float32) * _part(_folds(), chance)
    gain = (gain + 1) * (across * np.float32(bright))
    noise = _part(_noise(), chance) * np.float32(chance.uniform(1, 6))
    bands = []
    for band, tint in zip(image.split(), (1 + warm, 1.0, 1 - warm), strict=True):
        lit = np.asarray(band, np.float32) * gain
        lit *= np.float32(tint)
        lit += noise
        bands.append(Image.fromarray(np.clip(lit, 0, 255, out=lit).astype(np.uint8)))
    return Image.merge("RGB", bands)


def _part(sheet: Floats, chance: random.Random) -> Floats:
    """A window of a larger sheet."""
    row, column = chance.randrange(HEIGHT), chance.randrange(WIDTH)
    return sheet[row : row + HEIGHT, column : column + WIDTH]


@functools.cache
def _noise() -> Floats:
    return np.random.default_rng(1).standard_normal((2 * HEIGHT, 2 * WIDTH)).astype(np.float32)


@functools.cache
def _folds() -> Floats:
    """Soft light and dark, as on cloth: what an alpha of 255 adds to 1."""
    grain = np.random.default_rng(2).integers(0, 256, (2 * HEIGHT // 22, 2 * WIDTH // 7), dtype=np.uint8)
    soft = Image.fromarray(grain).resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.BICUBIC)
    return (np.asarray(soft, np.float32) - 127.5) / 127.5 * (0.07 / 255)


def _cast_shadow(street: npt.NDArray[np.uint8], x: float, y: float, height: float, lit_from: float) -> None:
    """A soft dark ellipse at the feet, away from the light."""
    wide, high = height * 0.17, height * 0.022
    first, last = max(0, round(y - 2.5 * high)), min(HEIGHT, round(y + 2.5 * high))
    rows = (np.arange(first, last, dtype=np.float32)[:, None] - y) / high
    columns = (np.arange(WIDTH, dtype=np.float32)[None] - x + lit_from * wide * 0.45) / wide
    street[first:last] = street[first:last] * (1 - 0.5 * np.exp(-(rows**2) - columns**2)[..., None])
