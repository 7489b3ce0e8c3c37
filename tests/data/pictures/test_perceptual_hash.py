"""The hash of a picture survives what happens to pictures on the web, and tells different ones apart."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import encode_picture
from pocketclip.data.pictures.perceptual_hash import hash_of_pixels, perceptual_hash
from pocketclip.errors import BrokenItemError


def photo(seed: int) -> Image.Image:
    """Waves of many lengths, the long ones strong, as in photos."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:96, 0:128] / 128
    grey = np.zeros((96, 128))
    for v in range(10):
        for u in range(10):
            grey += random.normal() / (1 + u + v) * np.cos(np.pi * u * x) * np.cos(np.pi * v * y)
    scaled = (grey - grey.min()) / np.ptp(grey) * 255
    return Image.fromarray(np.stack([scaled, scaled * 0.8, 255 - scaled], axis=2).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


def distance(first: bytes, second: bytes) -> int:
    return (perceptual_hash(first, place="a") ^ perceptual_hash(second, place="b")).bit_count()


@pytest.mark.parametrize("seed", range(6))
def test_a_picture_that_was_compressed_or_resized_is_near_itself(seed: int) -> None:
    image = photo(seed)
    original = encoded(image, "PNG")
    assert distance(original, encoded(image, quality=40)) <= 4
    assert distance(original, encoded(image.resize((512, 384)), quality=80)) <= 4
    assert distance(original, encoded(image.resize((48, 40)), "PNG")) <= 4
    assert distance(original, encoded(image.convert("L"), quality=80)) <= 4


def test_different_pictures_are_far_from_each_other() -> None:
    files = [encoded(photo(seed)) for seed in range(8)]
    near = [distance(one, other) for number, one in enumerate(files) for other in files[:number]]
    assert min(near) > 8


def test_a_large_jpeg_has_the_hash_of_its_small_copy() -> None:
    large = photo(3).resize((1600, 1200), Image.Resampling.BICUBIC)
    assert distance(encoded(large, quality=90), encoded(large.resize((200, 150)), "PNG")) <= 4


def test_rotation_in_the_header_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = photo(1).rotate(90, expand=True)
    assert distance(encoded(photo(1), quality=95), encoded(turned, quality=95, exif=exif)) <= 4
    assert distance(encoded(photo(1), quality=95), encoded(turned, quality=95)) > 8


def test_blank_pictures_have_no_bit_set() -> None:
    for colour in ("white", "black", "red"):
        assert perceptual_hash(encoded(Image.new("RGB", (40, 30), colour)), place="x") == 0


def test_the_hash_equals_the_formula_written_out() -> None:
    pixels = np.asarray(photo(5).convert("L").resize((32, 32)))
    lowest = np.zeros((8, 8))
    for v in range(8):
        for u in range(8):
            total = 0.0
            for y in range(32):
                for x in range(32):
                    wave = np.cos(np.pi * v * (2 * y + 1) / 64) * np.cos(np.pi * u * (2 * x + 1) / 64)
                    total += float(pixels[y, x]) * wave
            lowest[v, u] = total / 16 * (0.5**0.5 if u == 0 else 1) * (0.5**0.5 if v == 0 else 1)
    threshold = max(float(np.median(lowest.ravel()[1:])), 4.0)
    bits = "".join("1" if place and value > threshold else "0" for place, value in enumerate(lowest.ravel()))
    assert hash_of_pixels(pixels) == int(bits, 2)


@pytest.mark.parametrize("data", [b"", b"no picture", encode_picture(1, (200, 150))[:1500]])
def test_what_cannot_be_read_is_a_broken_item_with_its_place(data: bytes) -> None:
    with pytest.raises(BrokenItemError, match=r"here\.jpg"):
        perceptual_hash(data, place="here.jpg")
