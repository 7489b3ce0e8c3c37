"""Image bytes to pixels: the one path that training, evaluation and inference share. No torch here.

Decoding lives at this layer because models, search and data all read pictures, and none may import another.
"""

import functools
import importlib
import importlib.util
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from pydantic import Field, model_validator

from pocketclip.config import Config
from pocketclip.errors import BrokenItemError, UserError, first_line, pip_install
from pocketclip.files import did_you_mean

MAX_PIXELS = 100_000_000
"""Largest picture that is decoded, in pixels (100 MP, 300 MB as RGB); larger ones are refused unread."""

HEIC_SUFFIXES = frozenset({".heic", ".heif"})
"""Photos of iPhones, which the extra `heic` reads."""
_READ = ".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .ppm .pgm .pbm .avif"
IMAGE_SUFFIXES = frozenset(_READ.split()) | (HEIC_SUFFIXES if importlib.util.find_spec("pillow_heif") else frozenset())
"""Endings of the files that are pictures, in small letters."""
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
"""What such a file calls itself behind its first eight bytes."""
MAX_SAMPLE_VALUE = 281
"""TIFF's tag of the value that is white."""
MAX_IMAGE_SIZE = 4096
"""Largest side of a tower's picture; published towers take 1,024 pixels at most, and a side more costs its square."""
ImageSize = Annotated[int, Field(gt=0, le=MAX_IMAGE_SIZE)]

RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}  # all are antialiased


class PreprocessConfig(Config):
    """How a picture becomes the pixels a tower was trained on."""

    image_size: ImageSize
    resize: Literal["squash", "crop"] = "crop"
    """`squash` ignores the aspect ratio; `crop` resizes the shorter side and takes the centre."""
    crop_fraction: float = Field(default=1.0, gt=0, le=1)
    """Share of the resized picture that the centre crop keeps (timm's crop_pct)."""
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    crop_like: Literal["transformers", "torchvision"] = Field(
        default="transformers", exclude_if=lambda library: library == "transformers"
    )
    """Whose centre it is where it falls between two pixels: transformers' is to the left and above, torchvision's at an
    even number."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @model_validator(mode="after")
    def _resized_picture_is_of_a_sane_size(self) -> Self:
        if self.image_size / self.crop_fraction > 2 * MAX_IMAGE_SIZE:
            raise ValueError(
                f"crop_fraction {self.crop_fraction:g} of {self.image_size} px resizes a picture's shorter side to "
                f"more than {2 * MAX_IMAGE_SIZE} px"
            )
        return self

    @property
    def geometry(self) -> str:
        """Equal where rendered pixels are: all but the colours, with which a tower normalises them itself."""
        return self.model_dump_json(exclude={"mean", "std"})

    def to_hugging_face(self) -> dict[str, Any]:
        """The content of `preprocessor_config.json`, in the keys of transformers' CLIPImageProcessor."""
        size, squash = self.image_size, self.resize == "squash"
        whole = {"height": size, "width": size}
        return {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": whole if squash else {"shortest_edge": round(size / self.crop_fraction)},
            "do_center_crop": not squash,
            "crop_size": whole,
            "resample": int(RESAMPLE[self.interpolation]),
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }

    @classmethod
    def from_hugging_face(cls, values: dict[str, Any], *, place: str) -> "PreprocessConfig":
        """Read `preprocessor_config.json`; the inverse of `to_hugging_face`."""
        try:
            crop, shortest = int(values["crop_size"]["height"]), values["size"].get("shortest_edge")
            names = {int(code): name for name, code in RESAMPLE.items()}
            return cls.parse(
                {
                    "image_size": crop,
                    "resize": "squash" if shortest is None else "crop",
                    "crop_fraction": 1.0 if shortest is None else crop / shortest,
                    "interpolation": names[values["resample"]],
                    "mean": tuple(values["image_mean"]),
                    "std": tuple(values["image_std"]),
                },
                place=place,
            )
        except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
            raise UserError(f"{place}: not a preprocessor configuration we can read ({error!r}).") from error


def decode_image(data: bytes, *, place: str) -> Image.Image:
    """Decode any common picture to upright 8-bit RGB; `place` is the file (and member) to name in a BrokenItemError.

    EXIF rotation is applied, transparency is laid on white, greys of more than 8 bits are scaled by what they hold,
    CMYK, Lab and palettes are converted.
    """
    return load_image(open_header(data, place=place), place=place)


def open_header(data: bytes, *, place: str) -> Image.Image:
    """A picture of at most `MAX_PIXELS` of which only the header is read: its format, mode and size are known."""
    if not data:
        raise BrokenItemError(f"{place}: the file is empty (0 bytes).")
    with _damage_named(place), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns below our own limit, which is checked next
        if data[4:8] == b"ftyp" and data[8:12] in HEIC_BRANDS:
            _register_heic(place)
        image = Image.open(io.BytesIO(data))
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BrokenItemError(
            f"{place}: {width} x {height} pixels are over the limit of {MAX_PIXELS:,}; resize the picture."
        )
    return image


def load_image(image: Image.Image, *, place: str) -> Image.Image:
    """Decode what `open_header` gave, to upright 8-bit RGB."""
    with _damage_named(place):
        image.load()
        return _to_rgb(_upright(image), _named_white(image))


@contextmanager
def _damage_named(place: str) -> Iterator[None]:
    """Turn what Pillow raises on damaged files into a BrokenItemError: there is no list of it that is whole."""
    try:
        yield
    except UserError:
        raise
    except UnidentifiedImageError:
        raise BrokenItemError(f"{place}: not a picture in a format we can read.") from None
    except Exception as error:
        raise BrokenItemError(f"{place}: cannot decode the picture ({first_line(error)}).") from error


def _upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says; as it lies where the block is damaged, which says nothing of the pixels."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # whatever Pillow raises on odd tags
        return image


@functools.cache
def _heic_reader() -> Any:
    with suppress(ImportError):
        reader = importlib.import_module("pillow_heif")
        reader.register_heif_opener()
        return reader
    return None


def _register_heic(place: str) -> None:
    if _heic_reader() is None:
        raise BrokenItemError(f"{place}: a HEIC photo; to read it: {pip_install('[heic]')}")


def _named_white(image: Image.Image) -> float | None:
    """The value that a file says is white; it does not survive turning."""
    named = getattr(image, "tag_v2", {}).get(MAX_SAMPLE_VALUE)
    named = named[0] if isinstance(named, tuple) and named else named
    return float(named) if isinstance(named, int) else None


def _to_rgb(image: Image.Image, named_white: float | None = None) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(
            _grey_bytes(np.asarray(image, dtype=np.float64), named_white, is_float=image.mode == "F")
        ).convert("RGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
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


def open_image(image: str | Path | bytes | Image.Image) -> Image.Image:
    """A picture from a path, encoded bytes or a Pillow image, as upright RGB."""
    if isinstance(image, Image.Image):
        return load_image(image, place="(picture in memory)")
    if isinstance(image, bytes):
        return decode_image(image, place="(picture in memory)")
    path = Path(image).expanduser()
    try:
        return decode_image(path.read_bytes(), place=str(path))
    except FileNotFoundError as error:
        raise UserError(f"{path}: cannot read the picture ({error.strerror}).{did_you_mean(path)}") from error
    except IsADirectoryError as error:
        some = f"sorted(Path({str(path)!r}).glob('*.jpg'))"
        raise UserError(f"{path}: cannot read the picture: it is a folder; give its files, such as {some}") from error
    except (OSError, ValueError) as error:  # a name may hold what no path may
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot read the picture ({reason}).") from error


def scaled_size(size: tuple[int, int], config: PreprocessConfig) -> tuple[int, int]:
    """Width and height of a whole picture when the square that `crop` keeps is cut from its centre."""
    shortest = max(config.image_size, round(config.image_size / config.crop_fraction))
    # Rounded down like transformers' CLIPImageProcessor, which reads our preprocessor_config.json
    return shortest * size[0] // min(size), shortest * size[1] // min(size)


def centre_corner(scaled: tuple[int, int], config: PreprocessConfig) -> tuple[int, int]:
    """Left and top of the square that `crop` keeps of a picture of `scaled_size`."""
    spare = scaled[0] - config.image_size, scaled[1] - config.image_size
    if config.crop_like == "torchvision":
        return round(spare[0] / 2), round(spare[1] / 2)
    return spare[0] // 2, spare[1] // 2


def is_panorama(scaled: tuple[int, int], config: PreprocessConfig) -> bool:
    """Whether `crop` keeps less than a quarter of a picture, which would be resized for nothing."""
    return scaled[0] * scaled[1] > 4 * config.image_size**2


def centre_box(size: tuple[int, int], config: PreprocessConfig) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the square that `crop` keeps, in the pixels of a picture of this size."""
    scaled = scaled_size(size, config)
    ratio_x, ratio_y = size[0] / scaled[0], size[1] / scaled[1]
    left, top = centre_corner(scaled, config)
    right, bottom = left + config.image_size, top + config.image_size
    return left * ratio_x, top * ratio_y, right * ratio_x, bottom * ratio_y


def resize_image(image: Image.Image, config: PreprocessConfig) -> npt.NDArray[np.uint8]:
    """Resize (antialiased) and crop an RGB picture; returns (H, W, 3) with H = W = `config.image_size`."""
    size, resample = config.image_size, RESAMPLE[config.interpolation]
    if config.resize == "squash":
        return np.asarray(image if image.size == (size, size) else image.resize((size, size), resample))
    scaled = scaled_size(image.size, config)
    if config.crop_like == "torchvision" and not is_panorama(scaled, config):  # its very bytes
        left, top = centre_corner(scaled, config)
        return np.asarray(image.resize(scaled, resample).crop((left, top, left + size, top + size)))
    # Resizing only the part that the crop keeps: the same pixels for a fraction of the work on wide pictures
    return np.asarray(image.resize((size, size), resample, box=centre_box(image.size, config)))
