"""Pictures and sentences as callers hand them over: one or several, from disk or memory. No torch here.

Errors name an item by its place, such as `images[3]`.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pocketclip.errors import UserError
from pocketclip.preprocess import HEIC_SUFFIXES, IMAGE_SUFFIXES, decode_image, load_image, open_image

ImageLike = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | npt.NDArray[Any]
"""A path, an encoded picture, an opened file, a Pillow image, or pixels: see `read_image`."""

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/|data:", re.IGNORECASE)  # one letter is a drive; a Path drops a slash
_CHANNELS = (1, 3, 4)
TAKEN = (
    "a path, the bytes of a picture file, an opened file, a Pillow image, or pixels as an array (height, width, 3) of "
    "uint8"
)
"""What a picture may be, for errors."""


def is_array(given: Any) -> bool:
    """Whether it is an array of numpy, torch or another library that numpy can read."""
    return isinstance(given, np.ndarray) or (hasattr(given, "__array__") and hasattr(given, "ndim"))


def is_picture(given: Any) -> bool:
    """Whether it is one picture; of a text where it ends as files of pictures do, or is an address on the web."""
    if isinstance(given, str):
        return Path(given).suffix.lower() in IMAGE_SUFFIXES | HEIC_SUFFIXES or bool(
            _ADDRESS.match(given) and " " not in given
        )
    return _is_image(given)


def is_text(given: Any) -> bool:
    """Whether it is one sentence, as far as its type goes."""
    return isinstance(given, str)


def _is_image(given: Any) -> bool:
    if is_array(given):
        return given.ndim in (2, 3) and getattr(given.dtype, "kind", None) not in ("O", "U", "S")
    return isinstance(given, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)) or hasattr(given, "read")


def items_of(given: Any, what: str, is_one: Callable[[Any], bool] = _is_image) -> Iterator[tuple[str, Any]]:
    """Each of what was given with the name that errors call it by; one item stands for itself.

    Raises:
        UserError: it is neither an item nor several in an order.
    """
    if is_array(given) and given.ndim == 0:
        given = given.item()
    if is_one(given):
        yield what, given
        return
    if isinstance(given, Mapping | set | frozenset):
        raise UserError(f"{what}: a {type(given).__name__} has no order to answer in; give a list.")
    if not isinstance(given, Iterable) or isinstance(given, (bytes, bytearray)):
        yield what, given  # whoever reads it says what it takes
        return
    yield from ((f"{what}[{number}]", item) for number, item in enumerate(given))


def read_text(item: Any, place: str) -> str:
    """A sentence.

    Raises:
        UserError: it is something else.
    """
    if isinstance(item, str):
        return str(item)
    cure = "decode it: x.decode()" if isinstance(item, bytes) else "pictures go to encode_image, or to encode"
    raise UserError(f"{place}: is {called(item)}, and should be a sentence; {cure}.")


def read_image(item: Any, place: str) -> Image.Image:
    """A picture as upright RGB.

    Taken are paths; encoded pictures in memory; files opened for reading bytes, which are read from their start; Pillow
    images of any mode; and pixels: (H, W), (H, W, 3) or (H, W, 4) as numpy holds them, (3, H, W) as torch does, as
    uint8, or as floats from 0 to 1. The order of colours is red, green, blue.

    Raises:
        UserError: it is none of these, missing, or damaged.
    """
    if isinstance(item, (str, os.PathLike)):
        return _read_file(os.fspath(item))
    if hasattr(item, "read") and not isinstance(item, Image.Image):
        item = _read_opened(item, place)
    if isinstance(item, (bytes, bytearray, memoryview)):
        return decode_image(bytes(item), place=f"{place} (picture in memory)")
    if is_array(item):
        item = _from_pixels(item, place)
    if not isinstance(item, Image.Image):
        raise UserError(f"{place}: is {called(item)}; give {TAKEN}.")
    if not all(item.size):
        raise UserError(f"{place}: a picture without pixels ({item.width} x {item.height}).")
    return load_image(item, place=place)


def called(item: Any) -> str:
    """An item of a wrong type, for errors."""
    return repr(item) if item is None or isinstance(item, (int, float)) else f"of type {type(item).__name__}"


def _read_file(path: str) -> Image.Image:
    if path[:5].lower() == "data:":
        raise UserError(f"{path[:40]}...: give the bytes: base64.b64decode(text.partition(',')[2])")
    if _ADDRESS.match(path):
        raise UserError(
            f"{path}: nothing is fetched from the web; give the bytes: urllib.request.urlopen(address).read()"
        )
    try:
        return open_image(path)
    except UserError as error:
        is_sentence = " " in path and not Path(path).exists()
        raise (UserError(f"{error} A sentence goes to encode_text.") if is_sentence else error) from error.__cause__


def _read_opened(file: Any, place: str) -> bytes:
    """All of an opened file, as Pillow reads it: from the start where that can be had."""
    try:
        if hasattr(file, "seekable") and file.seekable():
            file.seek(0)
        data = file.read()
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{place}: cannot read the opened file ({error}); open it with open(path, 'rb').") from error
    if not isinstance(data, bytes):
        raise UserError(f"{place}: was opened as text; open it with open(path, 'rb').")
    return data


def _from_pixels(given: Any, place: str) -> Image.Image:
    is_torch = type(given).__module__.partition(".")[0] == "torch"
    values = to_numpy(given)
    shape, axes = tuple(values.shape), "(3, height, width)" if is_torch else "(height, width, 3)"
    if is_torch and values.ndim == 3:
        values = np.moveaxis(values, 0, -1)
    if not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] in _CHANNELS)) or 0 in shape:
        ends = (shape[-1], shape[0]) if is_torch else (shape[0], shape[-1]) if shape else (0, 0)
        turned = len(shape) == 3 and ends[0] in _CHANNELS and ends[1] > max(_CHANNELS)
        cure = f": {'x.permute(2, 0, 1)' if is_torch else 'x.transpose(1, 2, 0)'}" if turned else ""
        raise UserError(f"{place}: an array of shape {shape}; pixels should be {axes}{cure}.")
    if values.dtype != np.uint8:
        values = _to_bytes(values, place)
    return Image.fromarray(np.ascontiguousarray(values[..., 0] if values.shape[2:] == (1,) else values))


def _to_bytes(values: npt.NDArray[Any], place: str) -> npt.NDArray[np.uint8]:
    """Of floats from 0 to 1; of anything else it is not known what is white."""
    if values.dtype.kind != "f":
        fits = values.dtype.kind in "iu" and values.min() >= 0 and values.max() <= 255
        cure = ": x.astype('uint8')" if fits else ": x.astype('uint8') * 255" if values.dtype.kind == "b" else ""
        raise UserError(f"{place}: pixels of {values.dtype}; give uint8 from 0 to 255{cure}.")
    low, high = float(values.min()), float(values.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # resizing overshoots; not a number is neither
        raise UserError(
            f"{place}: floats from {low:g} to {high:g}; pixels are uint8, or floats from 0 to 1. Pixels that were "
            "normalised already cannot be used: give them as they were before."
        )
    return np.clip(values.astype(np.float64) * 255, 0, 255).round().astype(np.uint8)


def to_numpy(given: Any) -> npt.NDArray[Any]:
    """An array of any library, on any device, with or without a gradient."""
    if type(given).__module__.partition(".")[0] == "torch":
        given = given.detach().cpu()
        given = given.float() if given.is_floating_point() else given
    return np.asarray(given)
