"""Drawn shapes with compositional captions whose true matches are known: colour, size, shape, count, relation.

Every number stands for a different scene of two groups, such as two small red circles above a large blue square.
Nothing is stored: a scene is drawn when it is read.
"""

import io
import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from PIL import Image, ImageDraw
from pydantic import Field, NonNegativeInt

from pocketclip.config import Config, digest
from pocketclip.data.source import Sample

COLOURS = {
    "red": (220, 40, 40), "green": (40, 160, 60), "blue": (50, 80, 220), "yellow": (245, 205, 40),
    "purple": (140, 60, 180), "orange": (245, 130, 30), "black": (25, 25, 25), "pink": (245, 150, 190),
}  # fmt: skip
SIZES = {"small": 0.07, "large": 0.12}  # radius as a share of the picture's side
SHAPES = ("circle", "square", "triangle", "star", "cross")
COUNTS = ("a", "two", "three")
CLASSES = {"colour": tuple(COLOURS), "shape": SHAPES, "size": tuple(SIZES), "count": COUNTS}
RELATIONS = {"above": "below", "left of": "right of"}
NUM_SCENES = (len(COUNTS) * len(SIZES) * len(COLOURS) * len(SHAPES)) ** 2 * len(RELATIONS)


@dataclass(frozen=True)
class Group:
    """One to three equal shapes."""

    count: int
    size: str
    colour: str
    shape: str

    def __str__(self) -> str:
        article = "an" if COUNTS[self.count - 1] == "a" and self.size[0] in "aeiou" else COUNTS[self.count - 1]
        return f"{article} {self.size} {self.colour} {self.noun}"

    @property
    def noun(self) -> str:
        """The shape's name in the number there is of it."""
        plural = {"cross": "crosses"}.get(self.shape, f"{self.shape}s")
        return self.shape if self.count == 1 else plural


@dataclass(frozen=True)
class Scene:
    """Two groups and where the first lies from the second."""

    first: Group
    second: Group
    relation: str

    @property
    def captions(self) -> tuple[str, ...]:
        """Two sentences that only this scene fulfils, then one for each group that others share."""
        return (
            f"{self.first} {self.relation} {self.second}",
            f"{self.second} {RELATIONS[self.relation]} {self.first}",
            str(self.first),
            str(self.second),
        )

    def matches(self, caption: str) -> bool:
        """Whether a caption of any scene is true of this one."""
        return caption in self.captions


class ScenesSourceConfig(Config):
    """`scenes` or `scenes:1000,seed=1`."""

    positional: ClassVar[tuple[str, ...]] = ("count",)
    kind: Literal["scenes"] = "scenes"
    count: int = Field(default=1000, ge=1, le=NUM_SCENES)
    seed: NonNegativeInt = 0
    image_size: int = Field(default=64, ge=16, le=1024)
    classes: Literal["none", "colour", "shape", "size", "count"] = "none"
    """What of the first group is a scene's class."""

    def open(self) -> "ScenesSource":
        """Nothing to read: scenes are drawn on demand."""
        return ScenesSource(f"scenes:{self.count}", self.count, self.seed, self.image_size, self.classes)


@dataclass(frozen=True)
class ScenesSource:
    """`count` different scenes in an order set by `seed`."""

    name: str
    count: int
    seed: int = 0
    image_size: int = 64
    classes: str = "none"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        scene = self.scene(index)
        place = f"{self.name}: scene {index}"
        return Sample(
            f"scene-{index:06d}", draw_scene(scene, self.image_size), scene.captions[:2], place, self.label(index)
        )

    def captions(self, index: int) -> tuple[str, ...]:
        """The two sentences that only this scene fulfils; nothing is drawn."""
        return self.scene(index).captions[:2]

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Every colour, shape, size or count there is, in the order they are drawn from."""
        return CLASSES.get(self.classes)

    def label(self, index: int) -> int | None:
        """The number of the first group's colour, shape, size or count."""
        if self.class_names is None:
            return None
        first = self.scene(index).first
        return first.count - 1 if self.classes == "count" else self.class_names.index(getattr(first, self.classes))

    def fingerprint(self) -> str:
        """From the settings and the drawing's version."""
        labelled = [] if self.classes == "none" else [self.classes]
        return digest(["scenes", 1, self.count, self.seed, self.image_size, *labelled])

    @cached_property
    def _stride(self) -> int:
        """A step that visits every scene once: coprime to their number."""
        stride = 48_271 + 2 * self.seed
        while math.gcd(stride, NUM_SCENES) != 1:
            stride += 1
        return stride

    def scene(self, index: int) -> Scene:
        """What scene number `index` shows."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        number = (index * self._stride + 7919 * self.seed) % NUM_SCENES
        groups = []
        for _ in range(2):
            number, count = divmod(number, len(COUNTS))
            number, size = divmod(number, len(SIZES))
            number, colour = divmod(number, len(COLOURS))
            number, shape = divmod(number, len(SHAPES))
            groups.append(Group(count + 1, tuple(SIZES)[size], tuple(COLOURS)[colour], SHAPES[shape]))
        return Scene(groups[0], groups[1], tuple(RELATIONS)[number])


def draw_scene(scene: Scene, image_size: int) -> bytes:
    """The scene as a PNG of `image_size` pixels a side on white, drawn at twice the size for smooth edges."""
    side = 2 * image_size
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    for group, place in ((scene.first, 0.27), (scene.second, 0.73)):
        for number in range(group.count):
            along = (number + 1) / (group.count + 1)
            x, y = (along, place) if scene.relation == "above" else (place, along)
            _draw_shape(draw, group, x * side, y * side, SIZES[group.size] * side)
    output = io.BytesIO()
    image.resize((image_size, image_size), Image.Resampling.BOX).save(output, "PNG", compress_level=1)
    return output.getvalue()


def _draw_shape(draw: ImageDraw.ImageDraw, group: Group, x: float, y: float, radius: float) -> None:
    colour = COLOURS[group.colour]
    if group.shape == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    elif group.shape == "square":
        half = radius * 0.9
        draw.rectangle((x - half, y - half, x + half, y + half), fill=colour)
    elif group.shape == "cross":
        third = radius / 3
        draw.rectangle((x - radius, y - third, x + radius, y + third), fill=colour)
        draw.rectangle((x - third, y - radius, x + third, y + radius), fill=colour)
    else:
        points, inner = (3, 1.0) if group.shape == "triangle" else (5, 0.42)
        draw.polygon(_polygon(x, y, radius, points, inner), fill=colour)


def _polygon(x: float, y: float, radius: float, points: int, inner: float) -> list[tuple[float, float]]:
    """Corners of a regular polygon (inner = 1) or star with one corner up."""
    corners = []
    for number in range(points if inner == 1.0 else 2 * points):
        angle = math.pi * (2 * number if inner == 1.0 else number) / points - math.pi / 2
        length = radius if inner == 1.0 or number % 2 == 0 else radius * inner
        corners.append((x + length * math.cos(angle), y + length * math.sin(angle)))
    return corners
