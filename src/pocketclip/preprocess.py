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
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import Field, model_validator

from pocketclip.config import Config
from pocketclip.errors import BrokenItemError, UserError, first_line, pip_install
from pocketclip.files import did_you_mean
from pocketclip.image_size import MAX_IMAGE_SIZE, ImageSize, height_and_width, written
from pocketclip.rgb import named_white, to_rgb

MAX_PIXELS = 100_000_000
"""Largest picture that is decoded, in pixels (100 MP, 300 MB as RGB); larger ones are refused unread."""

HEIC_SUFFIXES = frozenset({".heic", ".heif"})
"""Photos of iPhones, which the extra `heic` reads."""
_READ = ".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .ppm .pgm .pbm .avif"
IMAGE_SUFFIXES = frozenset(_READ.split()) | (HEIC_SUFFIXES if importlib.util.find_spec("pillow_heif") else frozenset())
"""Endings of the files that are pictures, in small letters."""
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
"""What such a file calls itself behind its first eight bytes."""

RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}  # all are antialiased


class PreprocessConfig(Config):
    """How a picture becomes the pixels a tower was trained on."""

    image_size: ImageSize
    resize: Literal["squash", "crop"] = "crop"
    """`squash` ignores the aspect ratio; `crop` keeps it, covers the tower's size, and takes the centre."""
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
        if max(self.shape) / self.crop_fraction > 2 * MAX_IMAGE_SIZE:
            raise ValueError(
                f"crop_fraction {self.crop_fraction:g} of {written(self.image_size)} px resizes a picture's shorter "
                f"side to more than {2 * MAX_IMAGE_SIZE} px"
            )
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of what a tower sees."""
        return height_and_width(self.image_size)

    @property
    def aspect(self) -> float:
        """Width to height of it."""
        return self.shape[1] / self.shape[0]

    @property
    def geometry(self) -> str:
        """Equal where rendered pixels are: all but the colours, with which a tower normalises them itself."""
        return self.model_dump_json(exclude={"mean", "std"})

    def to_hugging_face(self) -> dict[str, Any]:
        """The content of `preprocessor_config.json`, in the keys of transformers' CLIPImageProcessor.

        It has no words for a crop that covers other than a square, which stands in a key of our own.
        """
        squash, (height, width) = self.resize == "squash", self.shape
        whole, covered = {"height": height, "width": width}, covered_shape(self)
        size = {"shortest_edge": round(height / self.crop_fraction)}
        own: dict[str, Any] = {}
        if squash:
            size = whole
        elif height != width:
            size, own = dict(zip(whole, covered, strict=True)), {"covering_crop_fraction": self.crop_fraction}
        return {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": size,
            "do_center_crop": not squash,
            "crop_size": whole,
            "resample": int(RESAMPLE[self.interpolation]),
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            **own,
        }

    @classmethod
    def from_hugging_face(cls, values: dict[str, Any], *, place: str) -> "PreprocessConfig":
        """Read `preprocessor_config.json`; the inverse of `to_hugging_face`."""
        try:
            height, width = (int(values["crop_size"][side]) for side in ("height", "width"))
            shortest, fraction = values["size"].get("shortest_edge"), values.get("covering_crop_fraction")
            if shortest is not None:
                if height != width:
                    raise UserError(f"{place}: resizes the shorter side and cuts {height} x {width} px, no square.")
                fraction = height / shortest
            names = {int(code): name for name, code in RESAMPLE.items()}
            return cls.parse(
                {
                    "image_size": (height, width),
                    "resize": "squash" if fraction is None else "crop",
                    "crop_fraction": 1.0 if fraction is None else fraction,
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
        return to_rgb(_upright(image), named_white(image))


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


def covered_shape(config: PreprocessConfig) -> tuple[int, int]:
    """Height and width that a resized picture covers, of which `crop` keeps the centre."""
    height, width = (max(side, round(side / config.crop_fraction)) for side in config.shape)
    return height, width


def scaled_size(size: tuple[int, int], config: PreprocessConfig) -> tuple[int, int]:
    """Width and height of a whole picture when the part that `crop` keeps is cut from its centre."""
    (width, height), (rows, columns) = size, covered_shape(config)
    # Rounded down like transformers' CLIPImageProcessor, which reads our preprocessor_config.json
    if columns * height >= rows * width:
        return columns, columns * height // width
    return rows * width // height, rows


def centre_corner(scaled: tuple[int, int], config: PreprocessConfig) -> tuple[int, int]:
    """Left and top of what `crop` keeps of a picture of `scaled_size`."""
    spare = scaled[0] - config.shape[1], scaled[1] - config.shape[0]
    if config.crop_like == "torchvision":
        return round(spare[0] / 2), round(spare[1] / 2)
    return spare[0] // 2, spare[1] // 2


def is_panorama(scaled: tuple[int, int], config: PreprocessConfig) -> bool:
    """Whether `crop` keeps less than a quarter of a picture, which would be resized for nothing."""
    return scaled[0] * scaled[1] > 4 * config.shape[0] * config.shape[1]


def centre_box(size: tuple[int, int], config: PreprocessConfig) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what `crop` keeps, in the pixels of a picture of this size."""
    scaled = scaled_size(size, config)
    ratio_x, ratio_y = size[0] / scaled[0], size[1] / scaled[1]
    left, top = centre_corner(scaled, config)
    right, bottom = left + config.shape[1], top + config.shape[0]
    return left * ratio_x, top * ratio_y, right * ratio_x, bottom * ratio_y


def resize_image(image: Image.Image, config: PreprocessConfig) -> npt.NDArray[np.uint8]:
    """Resize (antialiased) and crop an RGB picture; returns (H, W, 3), which `config.shape` begins with."""
    size, resample = config.shape[::-1], RESAMPLE[config.interpolation]
    if config.resize == "squash":
        return np.asarray(image if image.size == size else image.resize(size, resample))
    scaled = scaled_size(image.size, config)
    if config.crop_like == "torchvision" and not is_panorama(scaled, config):  # its very bytes
        left, top = centre_corner(scaled, config)
        return np.asarray(image.resize(scaled, resample).crop((left, top, left + size[0], top + size[1])))
    # Resizing only the part that the crop keeps: the same pixels for a fraction of the work on wide pictures
    return np.asarray(image.resize(size, resample, box=centre_box(image.size, config)))
