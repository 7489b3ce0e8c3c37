"""Random views of a picture, the same ones whenever the same seed comes back.

Crops and flips draw from a generator of their own, so threads may make views side by side and nothing else in the
process notices.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from pocketclip.config import Config
from pocketclip.errors import require
from pocketclip.preprocess import PreprocessConfig, resample_filter, resize_image


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("the lower limit comes first")
    return limits


Share = Annotated[float, Field(gt=0, le=1)]
CropScale = Annotated[tuple[Share, Share], AfterValidator(_ascending)]
CropRatio = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ascending)]
View = Literal["centre", "flip", "crop", "crop_flip"]
Box = tuple[int, int, int, int]


class RandAugmentConfig(Config):
    """RandAugment, https://arxiv.org/abs/1909.13719."""

    num_ops: PositiveInt = 2
    magnitude: int = Field(default=9, ge=0, le=30)


class AugmentConfig(Config):
    """What happens to a picture in training; None or False switches a step off."""

    crop_scale: CropScale | None = None
    """Random resized crop that keeps between these shares of the area."""
    crop_ratio: CropRatio = (3 / 4, 4 / 3)
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

    def __call__(self, image: Image.Image, seed: Sequence[int]) -> npt.NDArray[np.uint8]:
        """One view as (H, W, 3) bytes.

        Args:
            image: decoded RGB.
            seed: numbers that name the view, such as (run seed, epoch, image number). Neither the process nor what
                was drawn before matters, so workers and resumed runs see the same views.
        """
        config, random = self.config, np.random.default_rng(seed)
        if config.crop_scale is not None:
            box = random_crop_box(image.size, config.crop_scale, config.crop_ratio, random)
            image = crop_and_resize(image, box, self.preprocess)
        else:
            image = Image.fromarray(resize_image(image, self.preprocess))
        if config.flip and random.random() < 0.5:
            image = ImageOps.mirror(image)
        if config.rand_augment is not None:
            image = _rand_augment(image, config.rand_augment, int(random.integers(2**62)))
        return np.asarray(image)


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


def crop_and_resize(image: Image.Image, box: Box, preprocess: PreprocessConfig) -> Image.Image:
    """A part of a picture at the tower's size, antialiased."""
    size = (preprocess.image_size, preprocess.image_size)
    return image.resize(size, resample_filter(preprocess), box=box)


def _rand_augment(image: Image.Image, config: RandAugmentConfig, seed: int) -> Image.Image:
    """Torchvision's RandAugment, which draws from torch's global generator: that is put back afterwards."""
    torch = require("torch", extra="train")
    transforms = require("torchvision.transforms.v2", extra="train")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed every GPU
        augmented: Image.Image = transforms.RandAugment(config.num_ops, config.magnitude)(image)
    return augmented


def fixed_views(
    image: Image.Image,
    views: Sequence[View],
    preprocess: PreprocessConfig,
    crop_scale: tuple[float, float],
    seed: Sequence[int],
) -> list[npt.NDArray[np.uint8]]:
    """The views of a picture that a feature cache stores, each (H, W, 3) bytes.

    `centre` is what inference sees; `flip` mirrors it; `crop` and `crop_flip` are random resized crops.
    """
    crop = AugmentConfig(crop_scale=crop_scale).build(preprocess)
    results = []
    for number, view in enumerate(views):
        pixels = crop(image, [*seed, number]) if view.startswith("crop") else resize_image(image, preprocess)
        results.append(pixels[:, ::-1] if view.endswith("flip") else pixels)
    return results
