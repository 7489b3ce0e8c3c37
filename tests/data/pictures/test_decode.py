import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageDraw
from torchvision.transforms import v2

from conftest import encode_picture
from pocketclip import preprocess
from pocketclip.data import open_source
from pocketclip.data.pictures import decode
from pocketclip.data.pictures.augment import random_crop_box
from pocketclip.data.pictures.decode import Picture, centre_view, crop_view, decode_picture, mirrored
from pocketclip.errors import BrokenItemError
from pocketclip.preprocess import RESAMPLE, PreprocessConfig, decode_image, resize_image

PHOTO_FOLDER = Path(__file__).parents[2] / "data" / "flickr8k"
SMALL = 2000  # a shortest side that no picture here has a multiple of: nothing is scaled in decoding


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


def draw_photo(seed: int, size: tuple[int, int] = (500, 375)) -> Image.Image:
    """Smooth noise at several scales with edges over it, about as hard to resize as a photo."""
    random = np.random.default_rng(seed)
    levels = np.full((size[1], size[0], 3), 120.0, np.float32)
    for cells, strength in ((4, 80), (16, 40), (60, 20), (size[0] // 4, 8)):
        noise = random.normal(0, strength, (3, cells * size[1] // size[0], cells)).astype(np.float32)
        for channel in range(3):
            levels[..., channel] += Image.fromarray(noise[channel]).resize(size, Image.Resampling.BICUBIC)
    image = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(10):
        corners = (random.random((2, 2)) * size).tolist()
        pen.line([tuple(corner) for corner in corners], tuple(random.integers(0, 256, 3).tolist()), size[0] // 120)
    return image


def reference(data: bytes, config: PreprocessConfig) -> npt.NDArray[np.uint8]:
    return resize_image(decode_image(data, place="x"), config)


def fast(data: bytes, config: PreprocessConfig) -> npt.NDArray[np.uint8]:
    shortest = round(max(config.shape) / config.crop_fraction)
    return centre_view(decode_picture(data, place="x", shortest=shortest), config)


def levels_apart(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    assert first.shape == second.shape
    return np.abs(first.astype(np.int64) - second)


@pytest.fixture(params=["torch", "pillow"])
def with_and_without_torch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both kinds of installation."""
    if request.param == "pillow":
        for name in ("torch", "torchvision.io"):
            monkeypatch.setitem(sys.modules, name, None)
    for cached in (decode.jpeg_decoder, decode._torch):
        cached.cache_clear()
    yield request.param
    for cached in (decode.jpeg_decoder, decode._torch):
        cached.cache_clear()


# Against the reference in `preprocess`


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("values", [{"resize": "squash"}, {}, {"crop_fraction": 0.875}])
@pytest.mark.parametrize("size", [(500, 375), (333, 500), (160, 160), (90, 120), (224, 224)])
@pytest.mark.parametrize("image_size", [224, (336, 112), (96, 224)])
def test_views_are_those_of_the_reference(
    image_size: Any, size: tuple[int, int], values: dict[str, Any], interpolation: Any
) -> None:
    config = PreprocessConfig.parse({"image_size": image_size, "interpolation": interpolation, **values}, place="")
    data = encoded(draw_photo(1, size), quality=88)
    apart = levels_apart(fast(data, config), reference(data, config))
    assert apart.mean() < 0.4  # Pillow itself is 0.25 from itself on tall pictures, whole or from a box
    assert apart.max() <= 10


@pytest.mark.skipif(not PHOTO_FOLDER.is_dir(), reason="needs the photos of data/flickr8k")
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("image_size", [24, 40, 96, 224])  # the smaller two are scaled while decoding
def test_views_of_real_photos_are_those_of_the_reference(image_size: int, resize: Any, interpolation: Any) -> None:
    config = PreprocessConfig(image_size=image_size, resize=resize, interpolation=interpolation)
    source = open_source(f"webdataset:{PHOTO_FOLDER}/flickr8k-val-000000.tar")
    apart = [
        levels_apart(fast(source[number].image, config), reference(source[number].image, config)).mean()
        for number in range(60)
    ]
    assert max(apart) < 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shortest", [SMALL, 64])  # whole, and scaled while decoding
def test_crops_and_flips_are_those_of_pillow(shortest: int, interpolation: Any) -> None:
    config = PreprocessConfig(image_size=64, interpolation=interpolation)
    random, data = np.random.default_rng(0), encoded(draw_photo(2, (501, 403)), quality=88)
    image, picture = decode_image(data, place=""), decode_picture(data, place="", shortest=shortest)
    assert picture.size == (501, 403)
    assert picture.scale == (1 if shortest == SMALL else 0.5)
    for _ in range(10):
        box = random_crop_box(image.size, (0.7, 1.0), (3 / 4, 4 / 3), random)
        wanted = np.asarray(image.resize((64, 64), RESAMPLE[config.interpolation], box=box))
        got = crop_view(picture, box, config)
        assert levels_apart(got, wanted).mean() < (0.4 if shortest == SMALL else 1)
        assert np.array_equal(mirrored(got), got[:, ::-1])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crops_are_those_of_torchvision(interpolation: Any) -> None:
    config = PreprocessConfig(image_size=24, interpolation=interpolation)
    picture = decode_picture(encode_picture(1, (48, 36), "PNG"), place="", shortest=SMALL)
    pixels = torch.from_numpy(picture.pixels).permute(2, 0, 1)
    wanted = v2.functional.resized_crop(pixels, 3, 5, 28, 35, [24, 24], v2.InterpolationMode(interpolation))
    assert np.array_equal(crop_view(picture, (5, 3, 40, 31), config), wanted.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("size", [(2000, 30), (30, 2000), (1, 1), (1, 300), (300, 1)])
def test_the_thinnest_pictures_are_those_of_the_reference(size: tuple[int, int]) -> None:
    data = encode_picture(3, size)
    config = PreprocessConfig(image_size=48)
    assert levels_apart(fast(data, config), reference(data, config)).mean() < 0.5


def test_a_long_thin_picture_is_never_resized_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_torch", object)  # torch resizes whole pictures, Pillow a part of one
    picture = Picture(np.zeros((1, 65_500, 3), np.uint8), (65_500, 1))
    assert centre_view(picture, PreprocessConfig(image_size=224)).shape == (224, 224, 3)  # 10 GB as a whole


def test_an_installation_without_torch_makes_the_same_views(with_and_without_torch: str) -> None:
    assert (decode.jpeg_decoder() is None) == (with_and_without_torch == "pillow")
    data, config = encoded(draw_photo(4), quality=88), PreprocessConfig(image_size=96)
    picture = decode_picture(data, place="", shortest=96)
    apart = levels_apart(centre_view(picture, config), reference(data, config))
    assert apart.mean() < 0.05
    crop = crop_view(picture, (11, 20, 400, 330), config)
    assert np.array_equal(mirrored(crop), crop[:, ::-1])


# Scaling while decoding


@pytest.mark.parametrize("size", [(2000, 1500), (1499, 2001)])
def test_a_much_larger_jpeg_is_scaled_while_decoding_and_stays_within_a_level(size: tuple[int, int]) -> None:
    data, config = encoded(draw_photo(5, size), quality=88), PreprocessConfig(image_size=224)
    picture = decode_picture(data, place="", shortest=224)
    assert picture.size == size
    assert picture.pixels.shape == (-(-size[1] // 2), -(-size[0] // 2), 3)
    assert levels_apart(centre_view(picture, config), reference(data, config)).mean() < 1


@pytest.mark.parametrize(("shortest", "divisor"), [(101, 1), (100, 2), (51, 2), (50, 4), (25, 8), (1, 8)])
def test_a_jpeg_keeps_three_times_the_needed_side(shortest: int, divisor: int) -> None:
    picture = decode_picture(encode_picture(0, (800, 600)), place="", shortest=shortest)
    assert picture.pixels.shape == (600 // divisor, 800 // divisor, 3)


# Formats and modes


def random_levels(*shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


EXIF = Image.Exif()
EXIF[0x112], EXIF[0x10F] = 3, "a camera"

MODES = {
    "rgb": encode_picture(1),
    "grey": encoded(Image.fromarray(random_levels(24, 32))),
    "cmyk": encoded(Image.fromarray(random_levels(24, 32, 4), "CMYK")),
    "progressive": encoded(draw_photo(0, (120, 90)), progressive=True),
    "full-colour": encoded(draw_photo(0, (121, 91)), subsampling=0),
    "exif": encoded(draw_photo(0, (40, 30)), exif=EXIF),
    "png": encode_picture(1, kind="PNG"),
    "png-alpha": encoded(Image.fromarray(random_levels(24, 32, 4)), "PNG"),
    "png-16": encoded(Image.fromarray(np.arange(0, 65_536, 256, dtype=np.uint16).reshape(16, 16)), "PNG"),
    "palette": encoded(Image.fromarray(random_levels(24, 32)).convert("P"), "GIF"),
    "webp": encode_picture(1, kind="WEBP"),
    "tiff": encode_picture(1, kind="TIFF"),
}


@pytest.mark.parametrize("name", list(MODES))
def test_every_format_and_mode_has_the_pixels_of_the_reference(name: str) -> None:
    picture = decode_picture(MODES[name], place="", shortest=SMALL)
    assert np.array_equal(picture.pixels, np.asarray(decode_image(MODES[name], place="")))
    assert picture.size == (picture.pixels.shape[1], picture.pixels.shape[0])


@pytest.mark.parametrize("shortest", [SMALL, 12])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_with_exif_rotation_comes_out_upright(orientation: int, shortest: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    data = encoded(draw_photo(6, (160, 96)), exif=exif)
    upright = decode_image(data, place="")
    picture = decode_picture(data, place="", shortest=shortest)
    assert picture.size == upright.size == ((160, 96) if orientation < 5 else (96, 160))
    smaller = np.asarray(upright.reduce(1 if shortest == SMALL else 2))
    assert levels_apart(picture.pixels, smaller).mean() < (1e-9 if shortest == SMALL else 3)


def test_a_jpeg_really_takes_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "load_image", None)
    assert decode_picture(encode_picture(1), place="", shortest=SMALL).pixels.shape == (24, 32, 3)


# Damage


def outcome(decoder: Callable[[bytes], npt.NDArray[np.uint8]], data: bytes) -> npt.NDArray[np.uint8] | str:
    """Pixels, or the message."""
    try:
        return decoder(data)
    except BrokenItemError as error:
        return str(error)


def damaged_files() -> Iterator[bytes]:
    random, wholes = (
        np.random.default_rng(0),
        [MODES[name] for name in ("rgb", "grey", "cmyk", "progressive", "exif", "png")],
    )
    for _ in range(400):
        data = bytearray(wholes[random.integers(len(wholes))])
        if random.random() < 0.5:
            del data[random.integers(1, len(data)) :]
        for place in random.integers(0, len(data), random.integers(4)):
            data[place] = random.integers(256)
        yield bytes(data)


def test_damaged_files_have_the_pixels_or_the_message_of_the_reference() -> None:
    num_messages = 0
    for data in [b"", b"no picture", *damaged_files()]:
        wanted = outcome(lambda data: np.asarray(decode_image(data, place="shard.tar: 7")), data)
        got = outcome(lambda data: decode_picture(data, place="shard.tar: 7", shortest=SMALL).pixels, data)
        if isinstance(wanted, str) or isinstance(got, str):
            assert got == wanted
            num_messages += 1
        else:
            assert np.array_equal(got, wanted)
    assert 100 < num_messages < 380


def test_a_picture_over_the_limit_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocess, "MAX_PIXELS", 32 * 24)
    monkeypatch.setattr(decode, "_decode_jpeg", None)
    with pytest.raises(BrokenItemError, match=r"wide\.jpg: 33 x 24 pixels are over the limit of 768; resize"):
        decode_picture(encode_picture(size=(33, 24)), place="wide.jpg", shortest=SMALL)
