"""A 64-bit number that files of one picture share, but for a few bits, whatever its size and compression.

The package imagehash needs SciPy and PyWavelets, and has no dead zone: one pixel a grey level off turns 31 of its 64
bits in a plain picture.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from pocketclip.preprocess import load_image, open_header

FORMAT = 1  # raise when the same file would get another hash
SIDE = 32
"""Pixels to a side of the picture that is transformed."""
KEPT = 8
"""Lowest frequencies in each direction that make the hash: 8 x 8 = 64 bits."""
DEAD_ZONE = 4.0
"""Coefficients below it are taken for none: a wave of a quarter of a grey level, which rounding to bytes can make."""

_ANGLES = np.pi * np.arange(KEPT)[:, None] * (2 * np.arange(SIDE) + 1) / (2 * SIDE)
_COSINES = np.sqrt(2 / SIDE) * np.cos(_ANGLES)
"""(KEPT, SIDE), the first rows of the orthonormal DCT-II matrix."""
_COSINES[0] /= np.sqrt(2)


def perceptual_hash(data: bytes, *, place: str) -> int:
    """The DCT hash of an encoded picture: nearly the same bits for nearly the same picture.

    Grey values at 32 x 32 pixels, their two-dimensional DCT-II, and one bit for each of the 8 x 8 lowest frequencies:
    whether its coefficient is above the median of the 63 that say more than brightness. Reference: C. Zauner,
    Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, section 3.2.1
    (https://www.phash.org/docs/pubs/thesis_zauner.pdf). Two things differ: the bit of mean brightness is 0, and a
    coefficient within the dead zone is never above, since in plain or symmetric pictures it is noise. So every blank
    picture has the hash 0. A mirrored picture has another hash. Errors are those of `preprocess.decode_image`.
    """
    image = open_header(data, place=place)
    image.draft("L", (4 * SIDE, 4 * SIDE))  # a JPEG is decoded at a fraction of its size; four pixels a side remain
    grey = load_image(image, place=place).convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return hash_of_pixels(np.asarray(grey))


def hash_of_pixels(pixels: npt.NDArray[np.uint8]) -> int:
    """The hash of (32, 32) grey values; the first bit stands highest."""
    lowest = (_COSINES @ pixels.astype(np.float64) @ _COSINES.T).ravel()
    above = lowest > max(float(np.median(lowest[1:])), DEAD_ZONE)
    above[0] = False
    return int.from_bytes(np.packbits(above).tobytes())
