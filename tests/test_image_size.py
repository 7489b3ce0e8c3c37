"""One number or two: what a recipe may say, and that a square stays what it was."""

import json
from typing import Any

import pytest
import yaml

from pocketclip.config import Config, digest
from pocketclip.errors import UserError
from pocketclip.image_size import ImageSize, height_and_width, written
from pocketclip.models.image.config import ClipResNetEncoderConfig, TimmImageEncoderConfig
from pocketclip.preprocess import PreprocessConfig
from pocketclip.train.config import EarlyStageConfig


class Sized(Config):
    image_size: ImageSize = 224


@pytest.mark.parametrize(
    ("given", "size", "plain", "told"),
    [
        (160, 160, 160, "160"),
        ("160", 160, 160, "160"),
        (160.0, 160, 160, "160"),
        ([160, 160], 160, 160, "160"),
        ([384, 128], (384, 128), [384, 128], "384 x 128"),
        ((1, 4096), (1, 4096), [1, 4096], "1 x 4096"),
    ],
)
def test_a_size_goes_to_a_file_and_back(given: Any, size: Any, plain: Any, told: str) -> None:
    read = Sized.parse({"image_size": given}, place="x")
    assert (read.image_size, type(read.image_size)) == (size, type(size))
    assert read.model_dump(mode="json") == {"image_size": plain}
    assert json.loads(read.model_dump_json()) == {"image_size": plain}
    for text in (read.model_dump_json(), yaml.safe_dump(read.model_dump(mode="json"))):
        assert Sized.parse(yaml.safe_load(text), place="x") == read
    assert written(read.image_size) == told
    assert height_and_width(read.image_size) == (size if isinstance(size, tuple) else (size, size))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (0, "x: image_size: Input should be greater than 0 (got 0)"),
        (4097, "x: image_size: Input should be less than or equal to 4096 (got 4097)"),
        ([384, 0], "x: image_size: Input should be greater than 0 (got [384, 0])"),
        ([384, 5000], "x: image_size: Input should be less than or equal to 4096 (got [384, 5000])"),
        ([384], "x: image_size: should be one number of pixels, or height and width as [384, 128] (got [384])"),
        ([1, 2, 3], "x: image_size: should be one number of pixels, or height and width as [384, 128] (got [1, 2, 3])"),
        ("384x128", "height and width are written as [384, 128] (got '384x128')"),
        (None, "x: image_size: Input should be a valid integer (got None)"),
    ],
)
def test_what_is_no_size_is_refused_in_one_line(given: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        Sized.parse({"image_size": given}, place="x")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_square_hashes_as_the_number_that_it_was() -> None:
    one, two = (TimmImageEncoderConfig.parse({"name": "x", "image_size": size}, place="") for size in (160, [160, 160]))
    assert one.fingerprint() == two.fingerprint()
    assert PreprocessConfig(image_size=160).geometry == (
        '{"image_size":160,"resize":"crop","crop_fraction":1.0,"interpolation":"bicubic"}'
    )
    assert digest(PreprocessConfig(image_size=160).model_dump(mode="json")) == "17814e12560306b9"


def test_a_stage_takes_two_numbers() -> None:
    values = {"name": "low", "num_steps": 1, "batch_size": 2, "learning_rate": {"heads": 0.1}, "image_size": [192, 64]}
    assert EarlyStageConfig.parse(values, place="x").image_size == (192, 64)


def test_a_clip_resnet_takes_whole_strides_alone() -> None:
    assert ClipResNetEncoderConfig.parse({"image_size": [128, 64]}, place="x").image_size == (128, 64)
    for size in (100, [128, 100]):
        with pytest.raises(UserError, match="image_size: Input should be a multiple of 32"):
            ClipResNetEncoderConfig.parse({"image_size": size}, place="x")
