"""What may be trained: towers and strategies with what they score, read from `candidates.json`, which says whence."""

import functools
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from itertools import product
from typing import Literal

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from pocketclip.config import Config
from pocketclip.models.image.config import TimmImageEncoderConfig
from pocketclip.models.origin.packages import IMAGE_PACKAGES, TEXT_PACKAGES, PackagedWeights
from pocketclip.models.text.config import HuggingFaceTextEncoderConfig


class ImagePart(Config):
    """An image tower with its weights from a pip package."""

    name: str
    image_size: PositiveInt
    points: float
    """Of a score beside the first tower's."""
    core_ms: PositiveFloat
    """Of one core for a picture on the machine of the table: one measured tower tells the speed of the others."""

    @property
    def package(self) -> PackagedWeights:
        """What carries its weights."""
        return IMAGE_PACKAGES[self.name]

    def config(self, *, frozen_layers: int = 0) -> TimmImageEncoderConfig:
        """The `image_encoder` of a recipe."""
        return TimmImageEncoderConfig(
            name=self.name,
            pretrained="package",
            image_size=self.image_size,
            resize="squash",
            joined_stages=(0, 1, 2, 3, 4),
            frozen_layers=frozen_layers,
        )

    def __str__(self) -> str:
        return f"EfficientNet-Lite{self.name[-1]} at {self.image_size} px"


class TextPart(Config):
    """A text tower with its weights from a pip package: all of it, or its first layers."""

    name: str
    vocabulary: Literal["all", "occurring"]
    num_layers: PositiveInt
    points: float

    @property
    def package(self) -> PackagedWeights:
        """What carries its weights."""
        return TEXT_PACKAGES[self.name]

    def config(self, *, frozen_layers: int = 0) -> HuggingFaceTextEncoderConfig:
        """The `text_encoder` of a recipe."""
        return HuggingFaceTextEncoderConfig(
            name=self.name,
            pretrained="package",
            vocabulary=self.vocabulary,
            context_length=64,
            pooling="mean",
            joined_layers=(0,),
            num_layers=None if self.num_layers == ALL_LAYERS else self.num_layers,
            frozen_layers=frozen_layers,
        )

    def __str__(self) -> str:
        layers = "" if self.num_layers == ALL_LAYERS else f"{self.num_layers} of {ALL_LAYERS} layers of "
        return f"{layers}{self.name}{' with the words that occur' if self.vocabulary == 'occurring' else ''}"


ALL_LAYERS = 6


class Tuning(Config):
    """Training both towers after the heads: for whom it is known, and what it adds."""

    image_towers: tuple[str, ...]
    text_towers: tuple[str, ...]
    fewest_pictures: PositiveInt
    points_by_epochs: tuple[tuple[PositiveFloat, float], ...]

    def points(self, epochs: float) -> float:
        """Beside heads alone; between the known numbers of epochs on a straight line."""
        known, points = zip(*self.points_by_epochs, strict=True)
        return float(np.interp(epochs, np.array(known), np.array(points)))

    @property
    def fewest_epochs(self) -> float:
        """From which on it is better than heads alone, with something to spare."""
        return next(epochs for epochs, points in self.points_by_epochs if points > 0.5)

    @property
    def most_epochs(self) -> float:
        """Beyond which nothing is known to be gained."""
        return self.points_by_epochs[-1][0]


class Table(Config):
    """The content of `candidates.json`."""

    origin: str
    heads_points: float
    """Of heads over the first image and text tower, trained on so many `pictures`."""
    pictures: PositiveInt
    points_a_doubling: float
    """Of the pictures."""
    flip_points: float
    """Of pictures that are also learned from mirrored."""
    image_towers: dict[str, ImagePart]
    text_towers: dict[str, TextPart]
    tuning: Tuning


@dataclass(frozen=True)
class Candidate:
    """Two towers, how they are trained, and in which number type they are kept."""

    image: ImagePart
    text: TextPart
    tuned: bool
    """Whether both towers are trained after the heads."""
    half: bool

    @property
    def points(self) -> float:
        """Of its towers, beside the first ones."""
        return self.image.points + self.text.points

    @property
    def packages(self) -> list[PackagedWeights]:
        """What must be installed."""
        return [self.image.package, self.text.package]

    @property
    def missing(self) -> list[str]:
        """Names for pip of those that are not."""
        return [one.package for one in self.packages if not is_installed(one)]

    def __str__(self) -> str:
        return f"{self.image} + {self.text}{', in float16' if self.half else ''}"


def is_installed(weights: PackagedWeights) -> bool:
    """Whether a package is there; it is not opened."""
    return importlib.util.find_spec(weights.package.replace("-", "_")) is not None


@functools.cache
def read_table() -> Table:
    """The shipped one."""
    text = resources.files(__package__).joinpath("candidates.json").read_text(encoding="utf-8")
    return Table.parse(json.loads(text), place="candidates.json")


def candidates(table: Table) -> Iterator[Candidate]:
    """Every one, installed or not."""
    for (image, one), (text, other), half in product(
        table.image_towers.items(), table.text_towers.items(), (False, True)
    ):
        yield Candidate(one, other, False, half)
        if image in table.tuning.image_towers and text in table.tuning.text_towers:
            yield Candidate(one, other, True, half)
