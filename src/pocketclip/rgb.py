"""Pictures of any mode to 8-bit RGB."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

MAX_SAMPLE_VALUE = 281
"""TIFF's tag of the value that is white."""


def named_white(image: Image.Image) -> float | None:
    """The value that a file says is white; it does not survive turning."""
    named = getattr(image, "tag_v2", {}).get(MAX_SAMPLE_VALUE)
    named = named[0] if isinstance(named, tuple) and named else named
    return float(named) if isinstance(named, int) else None


def to_rgb(image: Image.Image, white: float | None = None) -> Image.Image:
    """The picture's colours; transparency is laid on white, and wide greys are scaled by the value that is `white`."""
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(
            _grey_bytes(np.asarray(image, dtype=np.float64), white, is_float=image.mode == "F")
        ).convert("RGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _grey_bytes(values: npt.NDArray[np.float64], named_white: float | None, *, is_float: bool) -> npt.NDArray[np.uint8]:
    """(H, W) greys of 8 bits from wider ones, whose file seldom says which value is white.

    That is the largest value a file names (TIFF's MaxSampleValue), else the end of the narrowest of the usual ranges
    that holds all values: 1 for floats, 8, 10, 12, 14, 16, 24 or 31 bits. Negative values are scaled with all others.
    """
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = min(0.0, float(values.min(initial=0))), float(values.max(initial=0))
    if low < 0:
        white = high if high > low else low + 1
    else:
        tops = ([1.0] if is_float else []) + [2.0**bits - 1 for bits in (8, 10, 12, 14, 16, 24, 31)]
        beyond = 1.02 if is_float else 1.0  # resizing overshoots
        white = next((top for top in tops if high <= beyond * top), high)
        if named_white is not None and named_white >= high > 0:
            white = named_white
    return np.clip((values - low) / (white - low) * 255, 0, 255).round().astype(np.uint8)
