"""Drawn pairs of scenes with sentences that are true or false of them: counting, colour, relation.

A block of eight examples has two sentences, each with two pairs of scenes that it is true of and two that it is not,
as in NLVR2. Within a block every scene stands in as many true examples as false ones, so neither the sentence nor
either image alone tells more than a coin. Nothing is stored: a scene is drawn when it is read.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import Field, NonNegativeInt

from pocketclip.data.choices import Pairs
from pocketclip.data.keys import content_id
from pocketclip.data.source import Gift, Sample, Source, SourceSettings
from pocketclip.data.sources.scene_drawing import draw_scene
from pocketclip.data.sources.scene_world import COLOURS, COUNTS, RELATIONS, SHAPES, SIZES, WORLD, Group, Scene, World

BLOCK = 8
PAIRS_PER_SENTENCE = 4
FORMS = ("left", "right", "one", "both", "total")
"""Which of the two images a sentence speaks of."""
ASPECTS = ("count", "colour", "relation")
"""What is different in the scenes that a sentence is not true of."""
Item = TypeVar("Item")
TOTALS = {3: "three", 4: "four", 5: "five"}


@dataclass(frozen=True)
class Fact:
    """What one scene shows: a group whatever its size, or two and where the first lies from the second."""

    group: Group
    relation: str | None = None
    other: Group | None = None

    def __str__(self) -> str:
        return self.group.statement + ("" if self.other is None else f" {self.relation} {self.other.without_size}")


@dataclass(frozen=True)
class Example:
    """Two scenes and a sentence."""

    left: Scene
    right: Scene
    sentence: str
    label: bool


class ScenePairsSourceConfig(SourceSettings):
    """`scene_pairs` or `scene_pairs:8000,seed=1`."""

    positional: ClassVar[tuple[str, ...]] = ("count",)
    gives: ClassVar[frozenset[Gift]] = frozenset({"captions", "pairs"})
    kind: Literal["scene_pairs"] = "scene_pairs"
    count: int = Field(default=8000, ge=BLOCK, multiple_of=BLOCK)
    """Examples, of two images each."""
    seed: NonNegativeInt = 0
    image_size: int = Field(default=64, ge=16, le=1024)
    num_colours: int = Field(default=len(COLOURS), ge=2, le=len(COLOURS))
    num_shapes: int = Field(default=len(SHAPES), ge=2, le=len(SHAPES))

    def read(self) -> "ScenePairsSource":
        """Nothing to read: scenes are drawn on demand."""
        world = World(self.num_colours, self.num_shapes)
        return ScenePairsSource(f"scene_pairs:{self.count},seed={self.seed}", self, world)


@dataclass(frozen=True)
class ScenePairsSource(Source):
    """`count` examples; samples 2 p and 2 p + 1 are the left and the right image of example p."""

    name: str
    settings: ScenePairsSourceConfig
    world: World
    images_per_example = 2
    drawn = True

    def __len__(self) -> int:
        return 2 * self.settings.count

    def sample(self, index: int) -> Sample:
        number, side = divmod(index, 2)
        example = self.example(number)
        image = draw_scene(example.right if side else example.left, self.settings.image_size)
        key = f"pair-{number:06d}-{('left', 'right')[side]}"
        return Sample(key, image, (example.sentence,), self.place(index), label=int(example.label))

    def place(self, index: int) -> str:
        return f"{self.name}: example {index // 2}"

    def picture_id(self, index: int) -> int:
        """Of what is drawn; nothing is."""
        example = self.example(index // 2)
        return content_id(repr(example.right if index % 2 else example.left).encode())

    def captions(self, index: int) -> tuple[str, ...]:
        """The sentence about an image and its partner; nothing is drawn."""
        return (self.example(index // 2).sentence,)

    @property
    def pairs(self) -> Pairs:
        """Every second example is true; a sentence has four."""
        numbers = np.arange(self.settings.count)
        return Pairs(numbers % 2 == 0, numbers // PAIRS_PER_SENTENCE)

    def stamp(self) -> Any:
        return ["scene_pairs", 2, self.settings.model_dump()]

    def example(self, number: int) -> Example:
        """What example `number` shows and says."""
        if not 0 <= number < self.settings.count:
            raise IndexError(number)
        return make_block(self.settings.seed, number // BLOCK, self.world)[number % BLOCK]


def kind_of_block(number: int) -> tuple[str, str]:
    """The form of a block's sentences, and the aspect; all kinds come in turn."""
    form = FORMS[number % len(FORMS)]
    return form, "count" if form == "total" else ASPECTS[number // len(FORMS) % len(ASPECTS)]


@functools.lru_cache(maxsize=64)
def make_block(seed: int, number: int, world: World = WORLD) -> tuple[Example, ...]:
    """Eight examples with two sentences of one form; every second example is true."""
    draw = Draw(np.random.default_rng([seed, number]), world)
    form, aspect = kind_of_block(number)
    if form == "total":
        return (*_total(draw), *_total(draw))
    fact = draw.relation() if aspect == "relation" else Fact(draw.group())
    contrast = draw.changed(fact, aspect)
    if form == "both":
        return _both(fact, contrast, draw)
    return (*_about_some(form, fact, contrast, draw), *_about_some(form, contrast, fact, draw))


def _about_some(form: str, fact: Fact, contrast: Fact, draw: "Draw") -> tuple[Example, ...]:
    """Four examples of `left`, `right` or `one`; only the side, or the number of images, tells true from false."""
    shows = [draw.scene(fact, contrast) for _ in range(2)]
    lacks = [draw.scene(contrast, fact) for _ in range(2)]
    if form == "one":
        pairs = [(shows[0], lacks[0]), (shows[0], shows[1]), (lacks[1], shows[1]), (lacks[1], lacks[0])]
        return _examples(f"{fact} in exactly one image", pairs)
    pairs = [(shows[0], lacks[0]), (lacks[0], shows[0]), (shows[1], lacks[1]), (lacks[1], shows[1])]
    if form == "right":
        pairs = [(right, left) for left, right in pairs]
    return _examples(f"{fact} in the {form} image", pairs)


def _both(fact: Fact, contrast: Fact, draw: "Draw") -> tuple[Example, ...]:
    """Eight examples: the scenes that one sentence is true of are those that the other is false of."""
    shows = [draw.scene(fact, contrast) for _ in range(4)]
    lacks = [draw.scene(contrast, fact) for _ in range(4)]
    ours = [(shows[0], shows[1]), (shows[0], lacks[0]), (shows[2], shows[3]), (lacks[1], shows[1])]
    theirs = [(lacks[0], lacks[1]), (shows[2], lacks[2]), (lacks[2], lacks[3]), (lacks[3], shows[3])]
    return (*_examples(f"{fact} in both images", ours), *_examples(f"{contrast} in both images", theirs))


def _total(draw: "Draw") -> tuple[Example, ...]:
    """Four examples of two left and two right images, whose counts add up to the sentence's in two of four ways."""
    total = draw.one_of(list(TOTALS))
    first, second = draw.random.permutation([count for count in (1, 2, 3) if 1 <= total - count <= 3])[:2].tolist()
    group = draw.group()

    def scene(count: int) -> Scene:
        fact = Fact(replace(group, count=count))
        return draw.scene(fact, fact)

    lefts, rights = (scene(first), scene(second)), (scene(total - first), scene(total - second))
    pairs = [(lefts[0], rights[0]), (lefts[0], rights[1]), (lefts[1], rights[1]), (lefts[1], rights[0])]
    plural = replace(group, count=total).noun
    return _examples(f"there are {TOTALS[total]} {group.colour} {plural} in total", pairs)


def _examples(sentence: str, pairs: Sequence[tuple[Scene, Scene]]) -> tuple[Example, ...]:
    return tuple(Example(left, right, sentence, number % 2 == 0) for number, (left, right) in enumerate(pairs))


@dataclass(frozen=True)
class Draw:
    """Draws groups, facts and scenes of a world."""

    random: np.random.Generator
    world: World

    def one_of(self, items: Sequence[Item]) -> Item:
        """Any of some things, as likely as the others."""
        return items[int(self.random.integers(len(items)))]

    def group(self) -> Group:
        """Any group."""
        count, size = self.one_of(range(1, len(COUNTS) + 1)), self.one_of(list(SIZES))
        return Group(count, size, self.one_of(self.world.colours), self.one_of(self.world.shapes))

    def relation(self) -> Fact:
        """Where a group lies from one of another colour or shape."""
        one, other = self.group(), self.group()
        while (one.colour, one.shape) == (other.colour, other.shape):
            other = self.group()
        return Fact(one, self.one_of([*RELATIONS, *RELATIONS.values()]), other)

    def changed(self, fact: Fact, aspect: str) -> Fact:
        """The fact with another count or colour, or the other way round."""
        if fact.other is not None:
            return Fact(fact.other, fact.relation, fact.group)
        group = fact.group
        while group.without_size == fact.group.without_size:
            drawn = self.group()
            group = replace(group, count=drawn.count) if aspect == "count" else replace(group, colour=drawn.colour)
        return Fact(group)

    def scene(self, fact: Fact, contrast: Fact) -> Scene:
        """A random scene that shows a fact, and nothing of the group that either fact speaks of beside it."""
        first = self._resized(fact.group)
        if fact.other is not None:
            second, relation = self._resized(fact.other), str(fact.relation)
            if relation not in RELATIONS:
                first, second = second, first
                relation = next(one for one, inverse in RELATIONS.items() if inverse == relation)
            return Scene(first, second, relation)
        taken = {(one.group.colour, one.group.shape) for one in (fact, contrast)}
        second = self.group()
        while (second.colour, second.shape) in taken:
            second = self.group()
        if self.random.random() < 0.5:
            first, second = second, first
        return Scene(first, second, self.one_of(list(RELATIONS)))

    def _resized(self, group: Group) -> Group:
        return replace(group, size=self.one_of(list(SIZES)))
