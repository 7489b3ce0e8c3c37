"""Random views of a picture, the same ones whenever the same seed comes back.

Crops and flips draw from a generator of their own, so threads may make views side by side and nothing else in the
process notices.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from pocketclip.config import Config
from pocketclip.data.decode import Box, Picture, Pixels, centre_view, crop_view, mirrored
from pocketclip.errors import require
from pocketclip.preprocess import PreprocessConfig, scaled_size


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("the lower limit comes first")
    return limits


Share = Annotated[float, Field(gt=0, le=1)]
CropScale = Annotated[tuple[Share, Share], AfterValidator(_ascending)]
CropRatio = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ascending)]
CROP_RATIO = (3 / 4, 4 / 3)
View = Literal["centre", "flip", "crop", "crop_flip"]


class RandAugmentConfig(Config):
    """RandAugment, https://arxiv.org/abs/1909.13719."""

    num_ops: PositiveInt = 2
    magnitude: int = Field(default=9, ge=0, le=30)


class AugmentConfig(Config):
    """What happens to a picture in training; None or False switches a step off."""

    crop_scale: CropScale | None = None
    """Random resized crop that keeps between these shares of the area."""
    crop_ratio: CropRatio = CROP_RATIO
    """Width to height of the crop."""
    flip: bool = False
    """Mirror half of the pictures; captions that say left or right become wrong."""
    rand_augment: RandAugmentConfig | None = None

    def build(self, preprocess: PreprocessConfig) -> "Augmentation":
        """An augmentation that ends at the tower's size."""
        return Augmentation(self, preprocess)


class Augmentation:
    """Maps a picture and a seed to the pixels of one random view."""

    def __init__(self, config: AugmentConfig, preprocess: PreprocessConfig) -> None:
        self.config = config
        self.preprocess = preprocess
        self.shortest = shortest_side(preprocess, config.crop_scale, config.crop_ratio)

    def __call__(self, picture: Picture, seed: Sequence[int]) -> Pixels:
        """One view as (H, W, 3) bytes.

        Args:
            picture: decoded for a `shortest` side like ours or larger.
            seed: numbers that name the view, such as (run seed, epoch, image number). Neither the process nor what
                was drawn before matters, so workers and resumed runs see the same views.
        """
        config, random = self.config, np.random.default_rng(seed)
        if config.crop_scale is not None:
            box = random_crop_box(picture.size, config.crop_scale, config.crop_ratio, random)
            pixels = crop_view(picture, box, self.preprocess)
        else:
            pixels = centre_view(picture, self.preprocess)
        if config.flip and random.random() < 0.5:
            pixels = mirrored(pixels)
        if config.rand_augment is not None:
            pixels = _rand_augment(pixels, config.rand_augment, int(random.integers(2**62)))
        return pixels


def shortest_side(
    preprocess: PreprocessConfig,
    crop_scale: tuple[float, float] | None,
    crop_ratio: tuple[float, float] = CROP_RATIO,
) -> int:
    """The shorter side of a picture that no view has to be enlarged from; see `decode_picture`.

    Args:
        preprocess: of the tower.
        crop_scale: share of the area that crops keep; None where there are none.
        crop_ratio: width to height of the crops.
    """
    size = min(scaled_size((1, 1), preprocess))
    if crop_scale is None:
        return size
    return math.ceil(size / math.sqrt(crop_scale[0] * min(crop_ratio[0], 1 / crop_ratio[1], 1)))


def random_crop_box(
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    random: np.random.Generator,
) -> Box:
    """A random part of a picture: left, top, right, bottom in its own pixels.

    The area is uniform in `scale`, the logarithm of width to height uniform in `ratio`; after ten boxes that do not
    fit, the largest centre box of an allowed ratio is taken. The same rule as torchvision's RandomResizedCrop.
    """
    width, height = size
    for _ in range(10):
        area = width * height * random.uniform(*scale)
        aspect = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(random.integers(width - w + 1)), int(random.integers(height - h + 1))
            return left, top, left + w, top + h
    w = max(1, min(width, round(height * ratio[1])))
    h = max(1, min(height, round(width / ratio[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _rand_augment(pixels: Pixels, config: RandAugmentConfig, seed: int) -> Pixels:
    """Torchvision's RandAugment, which draws from torch's global generator: that is put back afterwards.

    On Pillow's pictures: on tensors its rotations and shears take two and a half times as long.
    """
    torch = require("torch", extra="train")
    transforms = require("torchvision.transforms.v2", extra="train")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed every GPU
        return np.array(transforms.RandAugment(config.num_ops, config.magnitude)(Image.fromarray(pixels)))


def fixed_views(
    picture: Picture,
    views: Sequence[View],
    preprocess: PreprocessConfig,
    crop_scale: tuple[float, float],
    seed: Sequence[int],
) -> list[Pixels]:
    """The views of a picture that a feature cache stores, each (H, W, 3) bytes.

    `centre` is what inference sees; `flip` mirrors it; `crop` and `crop_flip` are random resized crops.
    """
    crop = AugmentConfig(crop_scale=crop_scale).build(preprocess)
    results = []
    for number, view in enumerate(views):
        pixels = crop(picture, [*seed, number]) if view.startswith("crop") else centre_view(picture, preprocess)
        results.append(mirrored(pixels) if view.endswith("flip") else pixels)
    return results
