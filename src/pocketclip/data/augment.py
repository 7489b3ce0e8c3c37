"""Random views of a picture, the same ones whenever the same seed comes back."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from pydantic import Field, PositiveInt
from torchvision.transforms import InterpolationMode, v2

from pocketclip.config import Config
from pocketclip.preprocess import PreprocessConfig, resize_image

Share = Annotated[float, Field(gt=0, le=1)]
View = Literal["centre", "flip", "crop", "crop_flip"]


class RandAugmentConfig(Config):
    """RandAugment, https://arxiv.org/abs/1909.13719."""

    num_ops: PositiveInt = 2
    magnitude: int = Field(default=9, ge=0, le=30)


class AugmentConfig(Config):
    """What happens to a picture in training; None or False switches a step off."""

    crop_scale: tuple[Share, Share] | None = None
    """Random resized crop that keeps between these shares of the area."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
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
        self.preprocess = preprocess
        modes = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
        steps: list[torch.nn.Module] = []
        if config.crop_scale is not None:
            size, mode = preprocess.image_size, modes[preprocess.interpolation]
            steps.append(v2.RandomResizedCrop(size, config.crop_scale, config.crop_ratio, interpolation=mode))
        if config.flip:
            steps.append(v2.RandomHorizontalFlip())
        if config.rand_augment is not None:
            steps.append(v2.RandAugment(config.rand_augment.num_ops, config.rand_augment.magnitude))
        self.steps = steps

    def __call__(self, image: Image.Image, seed: Sequence[int]) -> npt.NDArray[np.uint8]:
        """One view as (H, W, 3) bytes.

        Args:
            image: decoded RGB.
            seed: numbers that name the view, such as (run seed, epoch, image number). Neither the process nor what
                was drawn before matters, so workers and resumed runs see the same views.
        """
        if self.steps:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(mix_seed(seed))
                for step in self.steps:
                    image = step(image)
        return resize_image(image, self.preprocess)


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
    results = []
    for number, view in enumerate(views):
        if view.startswith("crop"):
            augmentation = AugmentConfig(crop_scale=crop_scale).build(preprocess)
            pixels = augmentation(image, [*seed, number])
        else:
            pixels = resize_image(image, preprocess)
        results.append(pixels[:, ::-1] if view.endswith("flip") else pixels)
    return results


def mix_seed(numbers: Sequence[int]) -> int:
    """One 63-bit seed from several numbers, without the collisions of adding them."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
