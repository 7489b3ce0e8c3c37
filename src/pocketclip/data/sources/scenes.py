"""Drawn shapes with compositional captions whose true matches are known: colour, size, shape, count, relation.

Every number stands for a different scene of two groups, such as two small red circles above a large blue square.
Nothing is stored: a scene is drawn when it is read.

Where captions are facts, a batch tells the truth of each of its captions about each of its images; where scenes are
twinned, it holds for each relation an image of the same groups that it is not true of. Of two groups one is always at
the top or on the left, so "at the top" tells nothing until it is bound to a group; a group alone teaches it first.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, model_validator

from pocketclip.data.choices import Choices
from pocketclip.data.keys import content_id
from pocketclip.data.source import Gift, Sample, Source, SourceSettings
from pocketclip.data.sources.scene_drawing import draw_scene
from pocketclip.data.sources.scene_world import COLOURS, COUNTS, NUM_SCENES, SHAPES, SIZES, LoneGroup, Scene, World


class ScenesSourceConfig(SourceSettings):
    """`scenes` or `scenes:1000,seed=1`."""

    positional: ClassVar[tuple[str, ...]] = ("count",)
    kind: Literal["scenes"] = "scenes"
    count: int = Field(default=1000, ge=1, le=NUM_SCENES)
    seed: NonNegativeInt = 0
    image_size: int = Field(default=64, ge=16, le=1024)
    classes: Literal["none", "colour", "shape", "size", "count"] = "none"
    """What of the first group is a scene's class."""
    texts: Literal["captions", "facts", "choices"] = "captions"
    """`captions`: two sentences that only this scene fulfils. `facts`: all six that can be said of it without a size;
    with `train.captions_per_image: 6`, a batch then has every caption that is true of any of its images. `choices`: a
    true sentence, and one that is false since its groups are exchanged; to measure on, not to learn from."""
    twinned: bool = False
    """Whether every second scene is the one before it with the groups exchanged; `train.batch_size` then counts twins,
    which stay together."""
    lone_groups: bool = False
    """Whether every second example shows one group alone, with the facts of it; goes with `texts: facts`."""
    num_colours: int = Field(default=len(COLOURS), ge=2, le=len(COLOURS))
    num_shapes: int = Field(default=len(SHAPES), ge=2, le=len(SHAPES))

    @property
    def gives(self) -> frozenset[Gift]:
        """What the opened source gives."""
        texts: Gift = "choices" if self.texts == "choices" else "captions"
        return frozenset({texts} if self.classes == "none" else {texts, "classes"})

    @model_validator(mode="after")
    def _goes_together(self) -> "ScenesSourceConfig":
        if self.lone_groups and self.texts != "facts":
            raise ValueError("lone_groups goes with texts: facts; one group has no sentence that only it fulfils")
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

    def read(self) -> "ScenesSource":
        """Nothing to read: scenes are drawn on demand."""
        return ScenesSource(f"scenes:{self.count}", self, 2 if self.twinned else 1)


@dataclass(frozen=True)
class ScenesSource(Source):
    """`count` scenes in an order set by `seed`; all different, unless they are twinned."""

    name: str
    settings: ScenesSourceConfig
    images_per_example: int = 1
    """Scenes that belong in one batch."""
    drawn = True

    def __len__(self) -> int:
        return self.settings.count

    def sample(self, index: int) -> Sample:
        image = draw_scene(self.scene(index), self.settings.image_size)
        return Sample(self.key(index), image, self.captions(index), self.place(index), self.label(index))

    def key(self, index: int) -> str:
        return f"scene-{index:06d}"

    def place(self, index: int) -> str:
        return f"{self.name}: scene {index}"

    def picture_id(self, index: int) -> int:
        """Of what is drawn; nothing is."""
        return content_id(repr(self.scene(index)).encode())

    def captions(self, index: int) -> tuple[str, ...]:
        """Two sentences that only this scene fulfils, or all facts, or a true and a false one; nothing is drawn."""
        scene = self.scene(index)
        if self.settings.texts == "facts" or isinstance(scene, LoneGroup):
            return scene.facts
        if self.settings.texts == "choices":
            return scene.captions[0], scene.exchanged.captions[0]
        return scene.captions[:2]

    @cached_property
    def choices(self) -> Choices | None:
        """Of every scene but those whose groups are equal, and so may be exchanged."""
        if self.settings.texts != "choices":
            return None
        scenes = [self.scene(index) for index in range(len(self))]
        samples = np.array([index for index, scene in enumerate(scenes) if scene != scene.exchanged], np.int64)
        zeros = np.zeros_like(samples)
        return Choices(samples, zeros, zeros + 2, zeros, ("exchanged",), twins=self.images_per_example == 2)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Every colour, shape, size or count there is, in the order they are drawn from."""
        world = self.settings.world
        names = {"colour": world.colours, "shape": world.shapes, "size": tuple(SIZES), "count": COUNTS}
        return names.get(self.settings.classes)

    def label(self, index: int) -> int | None:
        if self.class_names is None:
            return None
        first, kind = self.scene(index).first, self.settings.classes
        return first.count - 1 if kind == "count" else self.class_names.index(getattr(first, kind))

    def stamp(self) -> Any:
        return ["scenes", 1, self.settings.model_dump()]

    @cached_property
    def _stride(self) -> int:
        """A step that visits every scene once: coprime to their number."""
        stride = 48_271 + 2 * self.settings.seed
        while math.gcd(stride, self.settings.world.num_scenes) != 1:
            stride += 1
        return stride

    def scene(self, index: int) -> Scene | LoneGroup:
        """What scene number `index` shows."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        world, is_lone = self.settings.world, False
        example, is_twin = divmod(index, self.images_per_example)
        if self.settings.lone_groups:
            example, is_lone = example // 2, bool(example % 2)
        number = (example * self._stride + 7919 * self.settings.seed) % world.num_scenes
        scene = world.lone_group(number) if is_lone else world.scene(number)
        return scene.exchanged if is_twin else scene
