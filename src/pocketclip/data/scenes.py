"""Drawn shapes with compositional captions whose true matches are known: colour, size, shape, count, relation.

Every number stands for a different scene of two groups, such as two small red circles above a large blue square.
Nothing is stored: a scene is drawn when it is read.

Where captions are facts, a batch tells the truth of each of its captions about each of its images; where scenes are
twinned, it holds for each relation an image of the same groups that it is not true of. Of two groups one is always at
the top or on the left, so "at the top" tells nothing until it is bound to a group; a group alone teaches it first.
"""

import io
import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from PIL import Image, ImageDraw
from pydantic import Field, NonNegativeInt, model_validator

from pocketclip.config import Config, digest
from pocketclip.data.source import Sample

COLOURS = {
    "red": (220, 40, 40), "green": (40, 160, 60), "blue": (50, 80, 220), "yellow": (245, 205, 40),
    "purple": (140, 60, 180), "orange": (245, 130, 30), "black": (25, 25, 25), "pink": (245, 150, 190),
}  # fmt: skip
SIZES = {"small": 0.07, "large": 0.12}  # radius as a share of the picture's side
SHAPES = ("circle", "square", "triangle", "star", "cross")
COUNTS = ("a", "two", "three")
RELATIONS = {"above": "below", "left of": "right of"}
PLACES = {"above": ("at the top", "at the bottom"), "left of": ("on the left", "on the right")}
FIRST_PLACES = tuple(first for first, _ in PLACES.values())


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

    @property
    def without_size(self) -> str:
        """In words that are as true of it in another size."""
        article = COUNTS[self.count - 1]
        return f"{'an' if article == 'a' and self.colour[0] in 'aeiou' else article} {self.colour} {self.noun}"


def there_is(group: Group) -> str:
    """The statement that a group is there, in any size."""
    return f"there {'is' if group.count == 1 else 'are'} {group.without_size}"


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

    @property
    def facts(self) -> tuple[str, ...]:
        """All that can be said of this scene without a size: each group, its place, and how they lie, both ways."""
        places = PLACES[self.relation]
        return (
            there_is(self.first),
            there_is(self.second),
            f"{there_is(self.first)} {places[0]}",
            f"{there_is(self.second)} {places[1]}",
            f"{there_is(self.first)} {self.relation} {self.second.without_size}",
            f"{there_is(self.second)} {RELATIONS[self.relation]} {self.first.without_size}",
        )

    @property
    def exchanged(self) -> "Scene":
        """Each group in the place of the other."""
        return Scene(self.second, self.first, self.relation)

    @property
    def placed(self) -> tuple[tuple[Group, str], ...]:
        """Each group with its place."""
        return tuple(zip((self.first, self.second), PLACES[self.relation], strict=True))

    def matches(self, caption: str) -> bool:
        """Whether a caption of any scene is true of this one."""
        return caption in self.captions


@dataclass(frozen=True)
class LoneGroup:
    """One group alone, where it would be beside another."""

    first: Group
    place: str

    @property
    def facts(self) -> tuple[str, ...]:
        """All that can be said of it without a size."""
        return there_is(self.first), f"{there_is(self.first)} {self.place}"

    @property
    def exchanged(self) -> "LoneGroup":
        """The group in the opposite place."""
        (opposite,) = (place for pair in PLACES.values() if self.place in pair for place in pair if place != self.place)
        return LoneGroup(self.first, opposite)

    @property
    def placed(self) -> tuple[tuple[Group, str], ...]:
        """The group with its place."""
        return ((self.first, self.place),)


@dataclass(frozen=True)
class World:
    """What scenes are made of: the first few colours and shapes."""

    num_colours: int = len(COLOURS)
    num_shapes: int = len(SHAPES)

    @property
    def colours(self) -> tuple[str, ...]:
        """Names of the colours."""
        return tuple(COLOURS)[: self.num_colours]

    @property
    def shapes(self) -> tuple[str, ...]:
        """Names of the shapes."""
        return SHAPES[: self.num_shapes]

    @property
    def num_scenes(self) -> int:
        """How many different scenes there are."""
        return (len(COUNTS) * len(SIZES) * self.num_colours * self.num_shapes) ** 2 * len(RELATIONS)

    @property
    def settings(self) -> list[int]:
        """For fingerprints; nothing of the whole world."""
        return [] if self == WORLD else [self.num_colours, self.num_shapes]

    def scene(self, number: int) -> Scene:
        """Scene number `number` of all there are."""
        number, first = self._group(number)
        number, second = self._group(number)
        return Scene(first, second, tuple(RELATIONS)[number])

    def lone_group(self, number: int) -> LoneGroup:
        """Number `number` of all groups in all places, which begin anew behind the last."""
        number, group = self._group(number)
        places = [place for pair in PLACES.values() for place in pair]
        return LoneGroup(group, places[number % len(places)])

    def _group(self, number: int) -> tuple[int, Group]:
        """A group, and what of the number it leaves."""
        number, count = divmod(number, len(COUNTS))
        number, size = divmod(number, len(SIZES))
        number, colour = divmod(number, self.num_colours)
        number, shape = divmod(number, self.num_shapes)
        return number, Group(count + 1, tuple(SIZES)[size], self.colours[colour], self.shapes[shape])


WORLD = World()
NUM_SCENES = WORLD.num_scenes


class ScenesSourceConfig(Config):
    """`scenes` or `scenes:1000,seed=1`."""

    positional: ClassVar[tuple[str, ...]] = ("count",)
    kind: Literal["scenes"] = "scenes"
    count: int = Field(default=1000, ge=1, le=NUM_SCENES)
    seed: NonNegativeInt = 0
    image_size: int = Field(default=64, ge=16, le=1024)
    classes: Literal["none", "colour", "shape", "size", "count"] = "none"
    """What of the first group is a scene's class."""
    texts: Literal["captions", "facts"] = "captions"
    """`captions`: two sentences that only this scene fulfils. `facts`: all six that can be said of it without a size;
    with `train.captions_per_image: 6`, a batch then has every caption that is true of any of its images."""
    twinned: bool = False
    """Whether every second scene is the one before it with the groups exchanged; `train.batch_size` then counts twins,
    which stay together."""
    lone_groups: bool = False
    """Whether every second example shows one group alone, with the facts of it; goes with `texts: facts`."""
    num_colours: int = Field(default=len(COLOURS), ge=2, le=len(COLOURS))
    num_shapes: int = Field(default=len(SHAPES), ge=2, le=len(SHAPES))

    @model_validator(mode="after")
    def _lone_groups_have_facts(self) -> "ScenesSourceConfig":
        if self.lone_groups and self.texts != "facts":
            raise ValueError("lone_groups goes with texts: facts; one group has no sentence that only it fulfils")
        return self

    @model_validator(mode="after")
    def _there_are_as_many(self) -> "ScenesSourceConfig":
        if self.count > (number := self.world.num_scenes):
            raise ValueError(
                f"count: there are {number} scenes of {self.num_colours} colours and {self.num_shapes} shapes "
                f"(got {self.count})"
            )
        if self.twinned and self.count % 2:
            raise ValueError(f"count should be even, for twins (got {self.count})")
        return self

    @property
    def world(self) -> World:
        """What scenes are made of."""
        return World(self.num_colours, self.num_shapes)

    def open(self) -> "ScenesSource":
        """Nothing to read: scenes are drawn on demand."""
        return ScenesSource(
            f"scenes:{self.count}",
            self.count,
            self.seed,
            self.image_size,
            self.classes,
            self.texts,
            2 if self.twinned else 1,
            self.lone_groups,
            self.world,
        )


@dataclass(frozen=True)
class ScenesSource:
    """`count` scenes in an order set by `seed`; all different, unless they are twinned."""

    name: str
    count: int
    seed: int = 0
    image_size: int = 64
    classes: str = "none"
    texts: str = "captions"
    images_per_example: int = 1
    """Scenes that belong in one batch."""
    lone_groups: bool = False
    world: World = WORLD

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        scene = self.scene(index)
        place = f"{self.name}: scene {index}"
        image = draw_scene(scene, self.image_size)
        return Sample(f"scene-{index:06d}", image, self.captions(index), place, self.label(index))

    def captions(self, index: int) -> tuple[str, ...]:
        """Two sentences that only this scene fulfils, or all facts; nothing is drawn."""
        scene = self.scene(index)
        return scene.facts if self.texts == "facts" or isinstance(scene, LoneGroup) else scene.captions[:2]

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Every colour, shape, size or count there is, in the order they are drawn from."""
        names = {"colour": self.world.colours, "shape": self.world.shapes, "size": tuple(SIZES), "count": COUNTS}
        return names.get(self.classes)

    def label(self, index: int) -> int | None:
        """The number of the first group's colour, shape, size or count."""
        if self.class_names is None:
            return None
        first = self.scene(index).first
        return first.count - 1 if self.classes == "count" else self.class_names.index(getattr(first, self.classes))

    def fingerprint(self) -> str:
        """From the settings and the drawing's version."""
        added = [] if self.classes == "none" else [self.classes]
        added += [] if self.texts == "captions" else [self.texts]
        added += [] if self.images_per_example == 1 else ["twinned"]
        added += ["lone_groups"] if self.lone_groups else []
        return digest(["scenes", 1, self.count, self.seed, self.image_size, *added, *self.world.settings])

    @cached_property
    def _stride(self) -> int:
        """A step that visits every scene once: coprime to their number."""
        stride = 48_271 + 2 * self.seed
        while math.gcd(stride, self.world.num_scenes) != 1:
            stride += 1
        return stride

    def scene(self, index: int) -> Scene | LoneGroup:
        """What scene number `index` shows."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        example, is_twin = divmod(index, self.images_per_example)
        is_lone = False
        if self.lone_groups:
            example, is_lone = example // 2, bool(example % 2)
        number = (example * self._stride + 7919 * self.seed) % self.world.num_scenes
        scene = self.world.lone_group(number) if is_lone else self.world.scene(number)
        return scene.exchanged if is_twin else scene


def draw_scene(scene: Scene | LoneGroup, image_size: int) -> bytes:
    """The scene as a PNG of `image_size` pixels a side on white, drawn at twice the size for smooth edges."""
    side = 2 * image_size
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    for group, place in scene.placed:
        across = 0.27 if place in FIRST_PLACES else 0.73
        for number in range(group.count):
            along = (number + 1) / (group.count + 1)
            x, y = (along, across) if place in PLACES["above"] else (across, along)
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
