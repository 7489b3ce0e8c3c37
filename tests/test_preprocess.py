import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import ExifTags, Image, ImageCms

from conftest import encode_picture, normalize_pixels
from pocketclip import preprocess
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.preprocess import (
    PreprocessConfig,
    decode_image,
    open_image,
    resize_image,
)

SIZES = [(32, 24), (24, 32), (30, 30), (100, 37), (37, 100), (200, 50), (3, 90), (500, 333)]
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


def pixels_of(data: bytes) -> npt.NDArray[np.uint8]:
    image = decode_image(data, place="picture")
    assert image.mode == "RGB"
    return np.asarray(image)


def png_with_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


# Decoding what is whole


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_a_lossless_picture_keeps_every_pixel(kind: str) -> None:
    picture = Image.open(io.BytesIO(encode_picture(3, kind="PNG"))).quantize(64).convert("RGB")  # GIF holds 256 colours
    assert np.array_equal(pixels_of(encoded(picture, kind)), np.asarray(picture))


def test_cmyk_becomes_its_rgb_colours() -> None:
    cmyk = Image.merge("CMYK", [Image.new("L", (16, 16), value) for value in (0, 255, 255, 0)])
    assert np.abs(pixels_of(encoded(cmyk, "JPEG", quality=95)).astype(int) - [255, 0, 0]).max() <= 3


def test_a_transparent_palette_entry_becomes_white() -> None:
    palette = Image.new("P", (4, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putdata([0, 1, 0, 1])
    pixels = pixels_of(encoded(palette, "PNG", transparency=1))
    assert pixels[0].tolist() == [[10, 20, 30], [255, 255, 255], [10, 20, 30], [255, 255, 255]]


def test_a_transparent_colour_of_an_rgb_picture_becomes_white() -> None:
    picture = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert pixels_of(encoded(picture, "PNG", transparency=(4, 5, 6)))[0].tolist() == [[1, 2, 3], [255, 255, 255]]


@pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (255, 100), (128, 177)])  # 177 = 255 - 155 x 128 / 255
def test_grey_with_alpha_lies_on_white(alpha: int, expected: int) -> None:
    picture = Image.merge("LA", [Image.new("L", (2, 2), 100), Image.new("L", (2, 2), alpha)])
    assert np.abs(pixels_of(encoded(picture, "PNG")).astype(int) - expected).max() <= 1


def test_colour_with_alpha_lies_on_white() -> None:
    random = np.random.default_rng(0).integers(0, 256, (20, 20, 4), dtype=np.uint8)
    alpha = random[..., 3:].astype(float) / 255
    expected = random[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(pixels_of(encoded(Image.fromarray(random), "PNG")) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    values = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    pixels = pixels_of(encoded(Image.fromarray(values), kind))
    assert pixels[0].tolist() == [[level] * 3 for level in (0, 1, 128, 255)]


@pytest.mark.parametrize(("top", "expected"), [(1.0, [0, 128, 255]), (65535.0, [0, 128, 255])])
def test_floating_grey_is_scaled_by_its_range(top: float, expected: list[int]) -> None:
    values = np.array([[0, 0.5, 1]], np.float32) * top
    assert pixels_of(encoded(Image.fromarray(values), "TIFF"))[0, :, 0].tolist() == expected


def test_black_and_white_keeps_its_two_levels() -> None:
    picture = Image.fromarray(np.array([[True, False]]))
    assert pixels_of(encoded(picture, "PNG"))[0].tolist() == [[255] * 3, [0] * 3]


ORIENTATIONS = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: a[:, ::-1].swapaxes(0, 1),
}  # fmt: skip
"""What turns stored pixels upright, by the EXIF standard's number."""


def rotated_picture(orientation: int, kind: str = "PNG") -> tuple[npt.NDArray[np.uint8], bytes]:
    stored = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x112] = orientation
    return ORIENTATIONS[orientation](stored), encoded(Image.fromarray(stored), kind, exif=exif)


@pytest.mark.parametrize("orientation", list(ORIENTATIONS))
def test_a_picture_with_exif_rotation_comes_out_upright(orientation: int) -> None:
    upright, data = rotated_picture(orientation)
    assert np.array_equal(pixels_of(data), upright)


def test_an_opened_pillow_picture_comes_out_upright_too() -> None:
    upright, data = rotated_picture(6)
    assert np.array_equal(np.asarray(open_image(Image.open(io.BytesIO(data)))), upright)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixels_of(data)[0, 0].tolist() == [255, 0, 0]


# Decoding what is damaged


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"no picture at all", "not a picture"),
        (encode_picture(0, (200, 200))[:900], "cannot decode"),
        (encode_picture(0, kind="PNG")[:60], "cannot decode"),
        (encode_picture(0)[:1], "not a picture"),
    ],
    ids=["empty", "text", "truncated-jpeg", "truncated-png", "one-byte"],
)
def test_a_broken_picture_is_named_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BrokenItemError, match=reason) as caught:
        decode_image(data, place="photos/dog.jpg")
    assert str(caught.value).startswith("photos/dog.jpg: ")


@pytest.mark.parametrize("side", [10_001, 14_000, 60_000])  # the last is beyond Pillow's own limit
def test_an_image_bomb_is_refused_by_its_header(side: int) -> None:
    with pytest.raises(BrokenItemError, match="limit") as caught:
        decode_image(png_with_header(side, side), place="bomb.png")
    assert str(caught.value).startswith("bomb.png: ")


def test_the_pixel_limit_is_the_largest_allowed_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocess, "MAX_PIXELS", 32 * 24)
    assert decode_image(encode_picture(size=(32, 24)), place="fits").size == (32, 24)
    with pytest.raises(BrokenItemError, match=r"wide\.jpg: 33 x 24 pixels are over the limit of 768; resize"):
        decode_image(encode_picture(size=(33, 24)), place="wide.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "DDS", "AVIF"])
def test_no_damage_raises_anything_but_a_broken_item(kind: str) -> None:
    try:
        whole = encode_picture(kind=kind)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow does not write {kind}")
    random = np.random.default_rng(0)
    num_refused = 0
    for _ in range(200):
        data = bytearray(whole)
        for place in random.integers(0, min(len(data), 300), random.integers(1, 6)):
            data[place] = random.integers(256)
        try:
            assert min(decode_image(bytes(data), place="x").size) > 0
        except BrokenItemError:
            num_refused += 1
    assert num_refused > 0


# Opening what a user gives


def test_a_path_a_text_and_bytes_open_alike(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode_picture(kind="PNG"))
    first, *others = (np.asarray(open_image(given)) for given in (path, str(path), path.read_bytes()))
    assert all(np.array_equal(first, other) for other in others)


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file") as caught:
        open_image(tmp_path / "none.jpg")
    assert str(tmp_path / "none.jpg") in str(caught.value)


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the picture"):
        open_image(tmp_path)


# Resizing


def resized_whole_then_cropped(image: Image.Image, config: PreprocessConfig) -> npt.NDArray[np.uint8]:
    """The definition that `resize_image` takes a short cut to."""
    size, shortest = config.image_size, round(config.image_size / config.crop_fraction)
    width, height = (int(shortest * side / min(image.size)) for side in image.size)
    whole = image.resize((width, height), preprocess.RESAMPLE[config.interpolation])
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(whole.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("crop_fraction", [1.0, 0.875, 0.5])
@pytest.mark.parametrize("size", SIZES)
def test_crop_equals_resizing_the_whole_picture_and_cropping_its_centre(
    size: tuple[int, int], crop_fraction: float, interpolation: Any
) -> None:
    config = PreprocessConfig(image_size=32, crop_fraction=crop_fraction, interpolation=interpolation)
    image = decode_image(encode_picture(1, size, "PNG"), place="x")
    got = resize_image(image, config)
    assert got.shape == (32, 32, 3)
    differences = np.abs(got.astype(int) - resized_whole_then_cropped(image, config))
    assert differences.max() <= 2  # Pillow rounds to bytes after each of its two passes
    assert (differences <= 1).mean() > 0.999


@pytest.mark.parametrize("size", SIZES)
def test_squash_maps_the_whole_picture_onto_the_square(size: tuple[int, int]) -> None:
    config = PreprocessConfig(image_size=32, resize="squash")
    image = decode_image(encode_picture(1, size, "PNG"), place="x")
    assert np.array_equal(resize_image(image, config), np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize("crop_fraction", [1.0, 0.875])
@pytest.mark.parametrize("shape", [(96, 32), (32, 96), (40, 36)])
@pytest.mark.parametrize("size", SIZES)
def test_a_rectangle_is_covered_and_its_centre_cut(
    size: tuple[int, int], shape: tuple[int, int], crop_fraction: float
) -> None:
    config = PreprocessConfig(image_size=shape, crop_fraction=crop_fraction)
    image = decode_image(encode_picture(1, size, "PNG"), place="x")
    scale = max(round(shape[0] / crop_fraction) / size[1], round(shape[1] / crop_fraction) / size[0])
    whole = image.resize((int(size[0] * scale + 1e-6), int(size[1] * scale + 1e-6)), Image.Resampling.BICUBIC)
    left, top = (whole.width - shape[1]) // 2, (whole.height - shape[0]) // 2
    expected = np.asarray(whole.crop((left, top, left + shape[1], top + shape[0])))
    got = resize_image(image, config)
    assert got.shape == (*shape, 3)
    assert (np.abs(got.astype(int) - expected) <= 1).mean() > 0.999
    torchvision = resize_image(image, config.model_copy(update={"crop_like": "torchvision"}))
    assert torchvision.shape == (*shape, 3)


@pytest.mark.parametrize("size", SIZES)
def test_squash_maps_the_whole_picture_onto_a_rectangle(size: tuple[int, int]) -> None:
    config = PreprocessConfig(image_size=(48, 16), resize="squash")
    image = decode_image(encode_picture(1, size, "PNG"), place="x")
    assert np.array_equal(resize_image(image, config), np.asarray(image.resize((16, 48), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_a_picture_of_the_right_size_is_left_alone(resize: Any) -> None:
    image = decode_image(encode_picture(1, (32, 32)), place="x")
    assert np.array_equal(resize_image(image, PreprocessConfig(image_size=32, resize=resize)), np.asarray(image))


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (2, 3)])
def test_the_thinnest_pictures_have_a_view(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (10, 20, 30))
    assert np.array_equal(resize_image(image, PreprocessConfig(image_size=8)), np.broadcast_to([10, 20, 30], (8, 8, 3)))


def test_normalized_pixels_follow_the_formula() -> None:
    config = PreprocessConfig(image_size=5, mean=CLIP_MEAN, std=CLIP_STD)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), dtype=np.uint8)
    got = normalize_pixels(pixels, config)
    assert got.shape == (2, 3, 5, 5)
    assert got.dtype == np.float32
    for batch, row, column, channel in np.ndindex(pixels.shape):
        value = (int(pixels[batch, row, column, channel]) / 255 - CLIP_MEAN[channel]) / CLIP_STD[channel]
        assert got[batch, channel, row, column] == pytest.approx(value, abs=1e-5)


# Hugging Face's form

CONFIGS = [
    PreprocessConfig(image_size=32),
    PreprocessConfig(image_size=224, crop_fraction=0.875, interpolation="bilinear", mean=CLIP_MEAN, std=CLIP_STD),
    PreprocessConfig(image_size=64, resize="squash", mean=CLIP_MEAN),
    PreprocessConfig(image_size=(96, 32), resize="squash"),
    PreprocessConfig(image_size=(96, 32)),
    PreprocessConfig(image_size=(96, 33), crop_fraction=0.9),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_survives_the_hugging_face_form(config: PreprocessConfig) -> None:
    assert PreprocessConfig.from_hugging_face(config.to_hugging_face(), place="x") == config


@pytest.mark.parametrize("crop_fraction", [0.9, 0.95, 0.965])
def test_a_crop_that_is_no_whole_share_still_gives_the_same_pixels(crop_fraction: float) -> None:
    config = PreprocessConfig(image_size=96, crop_fraction=crop_fraction)
    again = PreprocessConfig.from_hugging_face(config.to_hugging_face(), place="x")
    image = decode_image(encode_picture(1, (500, 333)), place="x")
    assert np.array_equal(resize_image(image, again), resize_image(image, config))


@pytest.mark.parametrize(
    "change",
    [
        {"crop_size": None},
        {"crop_size": {"height": "wide"}},
        {"resample": 0},
        {"size": {"shortest_edge": 0}},
        {"size": 224},
        {"image_mean": 0.5},
        {"image_mean": [0.5]},
    ],
)
def test_an_unreadable_hugging_face_config_is_named(change: dict[str, Any]) -> None:
    values = {**CONFIGS[0].to_hugging_face(), **change}
    with pytest.raises(UserError) as caught:
        PreprocessConfig.from_hugging_face(values, place="preprocessor_config.json")
    assert str(caught.value).startswith("preprocessor_config.json: ")


@pytest.mark.parametrize(
    "config", [CONFIGS[0], CONFIGS[1].model_copy(update={"crop_fraction": 1.0}), CONFIGS[2], CONFIGS[3]]
)
def test_transformers_makes_the_same_pixels_from_our_config_file(config: PreprocessConfig) -> None:
    from transformers import CLIPImageProcessor

    processor = CLIPImageProcessor.from_dict(config.to_hugging_face())
    for number, size in enumerate([(500, 375), (375, 500), (640, 427), (100, 37), (300, 300)]):
        image = decode_image(encode_picture(number, size), place="x")
        ours = normalize_pixels(resize_image(image, config)[None], config)
        theirs = np.asarray(processor(image, return_tensors="np")["pixel_values"])
        levels = np.abs(ours - theirs) * np.array(config.std)[:, None, None] * 255
        assert levels.max() < 3.5  # two resizers round differently: at most 3 of 255 levels, hardly anywhere
        assert levels.mean() < 0.05


def test_a_shorter_side_and_a_rectangle_are_no_words_of_ours() -> None:
    values = {**CONFIGS[0].to_hugging_face(), "crop_size": {"height": 96, "width": 32}}
    with pytest.raises(UserError, match="x: resizes the shorter side and cuts 96 x 32 px, no square"):
        PreprocessConfig.from_hugging_face(values, place="x")


RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)
"""Half as bright as white in the mean."""


def tiff(values: np.ndarray, **options: object) -> bytes:
    output = io.BytesIO()
    Image.fromarray(values).save(output, "TIFF", **options)
    return output.getvalue()


def with_gaps(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[0, :3] = (np.nan, np.inf, -np.inf)
    return values


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (RAMP.astype(np.float32), {}),
        ((RAMP * 1.01).astype(np.float32), {}),
        ((RAMP * 255).astype(np.float32), {}),
        ((RAMP * 65535).astype(np.float32), {}),
        ((RAMP * 2 - 1).astype(np.float32), {}),
        (with_gaps((RAMP * 255).astype(np.float32)), {}),
        ((RAMP * 255).astype(np.uint16), {}),
        ((RAMP * 1023).astype(np.uint16), {}),
        ((RAMP * 4095).astype(np.uint16), {}),
        ((RAMP * 65535).astype(np.uint16), {}),
        ((RAMP * 30_000).astype(np.uint16), {"tiffinfo": {281: 30_000}}),
        ((RAMP * 255).astype(np.int32), {}),
        ((RAMP * 65535).astype(np.int32), {}),
        ((RAMP * 60_000 - 30_000).astype(np.int32), {}),
        ((RAMP * 255).astype(np.uint8), {}),
    ],
)
def test_greys_of_any_range_are_as_bright_as_they_were(values: np.ndarray, options: dict[str, object]) -> None:
    pixels = np.asarray(decode_image(tiff(values, **options), place="x"))
    assert pixels[1:].mean() == pytest.approx(128, abs=4)
    assert pixels[-1].min() > 245
    assert pixels[1, 0, 0] < 10


def test_a_black_picture_stays_black() -> None:
    assert np.asarray(decode_image(tiff(np.zeros((8, 8), np.float32)), place="x")).max() == 0


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"]
)
def test_a_picture_in_memory_of_any_mode_is_as_bright_as_it_was(mode: str) -> None:
    grey = Image.fromarray((RAMP * 255).astype(np.uint8))
    if mode == "LAB":
        image = ImageCms.profileToProfile(
            grey.convert("RGB"), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    elif mode == "I;16":
        image = Image.fromarray((RAMP * 65535).astype(np.uint16))
    else:
        image = grey.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr", "HSV") else grey.convert(mode)
    assert np.asarray(open_image(image)).mean() == pytest.approx(128, abs=6)


def test_a_damaged_exif_block_leaves_the_picture_as_it_lies() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    output = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(output, "JPEG", exif=exif.tobytes())
    data = bytearray(output.getvalue())
    place = data.index(b"Exif\0\0") + 6
    for flipped in range(place + 8, place + 22):
        damaged = data.copy()
        damaged[flipped] ^= 0xFF
        assert decode_image(bytes(damaged), place="x").size in ((20, 10), (10, 20))


def test_a_heic_photo_is_read_or_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    output = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(output, "HEIF")
    assert decode_image(output.getvalue(), place="x").size == (64, 48)
    monkeypatch.setattr("pocketclip.preprocess._heic_reader", lambda: None)
    with pytest.raises(BrokenItemError, match=r"x: a HEIC photo; to read it: (uv )?pip install 'pocketclip\[heic\]'"):
        decode_image(output.getvalue(), place="x")
