"""Encoded pictures to pixels, several times as fast as `preprocess` and within 1/255 of it in the mean.

JPEGs are decoded by torchvision; those much larger than needed are scaled while Pillow decodes them; all other formats,
modes and damaged files go the way of `preprocess.decode_image`. Torch resizes, antialiased, on bytes. In an
installation without torch Pillow does it all.
"""

import functools
import importlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from pocketclip.preprocess import (
    RESAMPLE,
    PreprocessConfig,
    centre_box,
    centre_corner,
    decode_image,
    is_panorama,
    load_image,
    open_header,
    scaled_size,
)

SCALE_MARGIN = 3
"""How many times the needed side a JPEG keeps when it is scaled in decoding. By then the mean difference is below
1/255 on every photo tried, at 2 it is up to 2.3/255."""

Pixels = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in the pixels of the original picture."""


@dataclass(frozen=True)
class Picture:
    """An upright RGB picture, perhaps at a fraction of its size."""

    pixels: Pixels
    """(H, W, 3)."""
    size: tuple[int, int]
    """Width and height of the original."""
    scale: float = 1.0
    """Width of `pixels` for each of the original."""


def decode_picture(data: bytes, *, place: str, shortest: int) -> Picture:
    """Decode like `preprocess.decode_image`, with the same errors, but faster.

    `shortest` is the shorter side of the original that no view would enlarge; a JPEG of several times that is scaled
    down.
    """
    image = open_header(data, place=place)
    orientation = _orientation(image) if image.format == "JPEG" else None
    if orientation is None:
        upright = decode_image(data, place=place)
        return Picture(np.array(upright), upright.size)  # copied, since torch wants it writable
    size, scale = image.size, 1.0
    drafted = image.draft(None, (SCALE_MARGIN * shortest,) * 2)
    if drafted is not None:
        scale = drafted[1][2] / size[0]  # from the exact width: that of the pixels is rounded up
    if scale == 1 and orientation == 1 and image.mode in ("RGB", "L"):
        pixels = _decode_jpeg(data)
        if pixels is not None:
            return Picture(pixels, size)
    return Picture(np.array(load_image(image, place=place)), size if orientation < 5 else size[::-1], scale)


def _orientation(image: Image.Image) -> int | None:
    """How a JPEG lies, by the EXIF standard's number: 1 is upright, from 5 on sides are swapped; None if unreadable."""
    with suppress(Exception):  # whatever Pillow raises on a damaged block
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return None


def _decode_jpeg(data: bytes) -> Pixels | None:
    """RGB pixels, or None where Pillow has to look: no decoder, or the file is damaged."""
    decode, torch = jpeg_decoder(), _torch()
    with suppress(RuntimeError):
        if decode is not None and torch is not None:
            encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            return np.asarray(decode(encoded).permute(1, 2, 0).numpy())
    return None


@functools.cache
def jpeg_decoder() -> Callable[[Any], Any] | None:
    """Torchvision's decoder; None where there is none. Called before workers fork, they share the import."""
    with suppress(ImportError, AttributeError):
        io = importlib.import_module("torchvision.io")
        return functools.partial(io.decode_jpeg, mode=io.ImageReadMode.RGB)
    return None


@functools.cache
def _torch() -> ModuleType | None:
    with suppress(ImportError):
        return importlib.import_module("torch")
    return None


def centre_view(picture: Picture, preprocess: PreprocessConfig) -> Pixels:
    """What inference sees: the fast twin of `preprocess.resize_image`; (H, W, 3)."""
    (rows, columns), whole = preprocess.shape, (0.0, 0.0, *picture.size)
    if preprocess.resize == "squash":
        return _resized(picture, whole, (columns, rows), preprocess)
    width, height = scaled_size(picture.size, preprocess)
    if is_panorama((width, height), preprocess):
        return _resized(picture, centre_box(picture.size, preprocess), (columns, rows), preprocess)
    left, top = centre_corner((width, height), preprocess)
    return _resized(picture, whole, (width, height), preprocess)[top : top + rows, left : left + columns]


def crop_view(picture: Picture, box: Box, preprocess: PreprocessConfig) -> Pixels:
    """A part of a picture at the tower's size, antialiased; (H, W, 3)."""
    return _resized(picture, box, preprocess.shape[::-1], preprocess)


def mirrored(pixels: Pixels) -> Pixels:
    """Left and right exchanged."""
    torch = _torch()
    if torch is None:
        return pixels[:, ::-1]
    return np.asarray(torch.from_numpy(pixels).flip(1).numpy())  # a tenth of the time that numpy takes to copy its view


def _resized(
    picture: Picture, box: tuple[float, float, float, float], size: tuple[int, int], preprocess: PreprocessConfig
) -> Pixels:
    """The part of a picture within a box, in pixels of the original, at another width and height."""
    torch, scale = _torch(), picture.scale
    edges = box[0] * scale, box[1] * scale, box[2] * scale, box[3] * scale
    left, top, right, bottom = map(round, edges)
    if torch is None or edges != (left, top, right, bottom):  # only Pillow resizes from between the pixels
        image = Image.fromarray(picture.pixels)
        return np.array(image.resize(size, RESAMPLE[preprocess.interpolation], box=edges))
    part = picture.pixels[top:bottom, left:right]
    if part.shape[:2] == size[::-1]:
        return part
    # With the strides of a channels_last batch torch takes its fast path and gives rows of RGB back
    batch = torch.from_numpy(part)[None].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(batch, size[::-1], mode=preprocess.interpolation, antialias=True)
    return np.asarray(resized.permute(0, 2, 3, 1)[0].numpy())
