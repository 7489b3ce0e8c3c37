"""Drawn pairs of scenes with sentences that are true or false of them: counting, colour, relation.

A block of eight examples has two sentences, each with two pairs of scenes that it is true of and two that it is not,
as in NLVR2. Within a block every scene stands in as many true examples as false ones, so neither the sentence nor
either image alone tells more than a coin. Nothing is stored: a scene is drawn when it is read.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, NonNegativeInt

from pocketclip.config import Config, digest
from pocketclip.data.scenes import COLOURS, COUNTS, RELATIONS, SHAPES, SIZES, Group, Scene, draw_scene
from pocketclip.data.source import Sample

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
        return _name(self.group) + ("" if self.other is None else f" {self.relation} {_name(self.other)}")

    def holds(self, scene: Scene) -> bool:
        """Whether a scene shows it."""
        if self.other is None:
            return any(_name(group) == _name(self.group) for group in (scene.first, scene.second))
        facts = ((scene.first, scene.relation, scene.second), (scene.second, RELATIONS[scene.relation], scene.first))
        wanted = (_name(self.group), self.relation, _name(self.other))
        return any((_name(one), relation, _name(other)) == wanted for one, relation, other in facts)


@dataclass(frozen=True)
class Example:
    """Two scenes and a sentence."""

    left: Scene
    right: Scene
    sentence: str
    label: bool


class ScenePairsSourceConfig(Config):
    """`scene_pairs` or `scene_pairs:8000,seed=1`."""

    positional: ClassVar[tuple[str, ...]] = ("count",)
    kind: Literal["scene_pairs"] = "scene_pairs"
    count: int = Field(default=8000, ge=BLOCK, multiple_of=BLOCK)
    """Examples, of two images each."""
    seed: NonNegativeInt = 0
    image_size: int = Field(default=64, ge=16, le=1024)

    def open(self) -> "ScenePairsSource":
        """Nothing to read: scenes are drawn on demand."""
        return ScenePairsSource(f"scene_pairs:{self.count},seed={self.seed}", self.count, self.seed, self.image_size)


@dataclass(frozen=True)
class ScenePairsSource:
    """`count` examples; samples 2 p and 2 p + 1 are the left and the right image of example p."""

    name: str
    count: int
    seed: int = 0
    image_size: int = 64

    def __len__(self) -> int:
        return 2 * self.count

    def __getitem__(self, index: int) -> Sample:
        number, side = divmod(index, 2)
        example = self.example(number)
        image = draw_scene(example.right if side else example.left, self.image_size)
        key = f"pair-{number:06d}-{('left', 'right')[side]}"
        return Sample(key, image, (example.sentence,), f"{self.name}: example {number}", label=int(example.label))

    def captions(self, index: int) -> tuple[str, ...]:
        """The sentence about an image and its partner; nothing is drawn."""
        return (self.example(index // 2).sentence,)

    @property
    def labels(self) -> npt.NDArray[np.bool_]:
        """(P,), whether each example's sentence is true."""
        return np.tile([True, False], self.count // 2)

    @property
    def sentences(self) -> npt.NDArray[np.int64]:
        """(P,), equal for examples of one sentence."""
        return np.arange(self.count) // PAIRS_PER_SENTENCE

    def fingerprint(self) -> str:
        """From the settings and the drawing's version."""
        return digest(["scene_pairs", 1, self.count, self.seed, self.image_size])

    def example(self, number: int) -> Example:
        """What example `number` shows and says."""
        if not 0 <= number < self.count:
            raise IndexError(number)
        return make_block(self.seed, number // BLOCK)[number % BLOCK]


@functools.lru_cache(maxsize=64)
def make_block(seed: int, number: int) -> tuple[Example, ...]:
    """Eight examples with two sentences of one form; every second example is true."""
    random = np.random.default_rng([seed, number])
    form = FORMS[number % len(FORMS)]
    if form == "total":
        return (*_total(random), *_total(random))
    aspect = ASPECTS[number // len(FORMS) % len(ASPECTS)]
    fact = _draw_relation(random) if aspect == "relation" else Fact(_draw_group(random))
    contrast = _changed(fact, aspect, random)
    if form == "both":
        return _both(fact, contrast, random)
    return (*_about_some(form, fact, contrast, random), *_about_some(form, contrast, fact, random))


def _about_some(form: str, fact: Fact, contrast: Fact, random: np.random.Generator) -> tuple[Example, ...]:
    """Four examples of `left`, `right` or `one`; only the side, or the number of images, tells true from false."""
    shows = [_draw_scene(fact, contrast, random) for _ in range(2)]
    lacks = [_draw_scene(contrast, fact, random) for _ in range(2)]
    if form == "one":
        pairs = [(shows[0], lacks[0]), (shows[0], shows[1]), (lacks[1], shows[1]), (lacks[1], lacks[0])]
        return _examples(f"exactly one image shows {fact}", pairs)
    pairs = [(shows[0], lacks[0]), (lacks[0], shows[0]), (shows[1], lacks[1]), (lacks[1], shows[1])]
    if form == "right":
        pairs = [(right, left) for left, right in pairs]
    return _examples(f"there {'is' if fact.group.count == 1 else 'are'} {fact} in the {form} image", pairs)


def _both(fact: Fact, contrast: Fact, random: np.random.Generator) -> tuple[Example, ...]:
    """Eight examples: the scenes that one sentence is true of are those that the other is false of."""
    shows = [_draw_scene(fact, contrast, random) for _ in range(4)]
    lacks = [_draw_scene(contrast, fact, random) for _ in range(4)]
    ours = [(shows[0], shows[1]), (shows[0], lacks[0]), (shows[2], shows[3]), (lacks[1], shows[1])]
    theirs = [(lacks[0], lacks[1]), (shows[2], lacks[2]), (lacks[2], lacks[3]), (lacks[3], shows[3])]
    return (*_examples(f"both images show {fact}", ours), *_examples(f"both images show {contrast}", theirs))


def _total(random: np.random.Generator) -> tuple[Example, ...]:
    """Four examples of two left and two right images, whose counts add up to the sentence's in two of four ways."""
    total = _choose(list(TOTALS), random)
    first, second = random.permutation([count for count in (1, 2, 3) if 1 <= total - count <= 3])[:2].tolist()
    group = _draw_group(random)

    def scene(count: int) -> Scene:
        fact = Fact(Group(count, group.size, group.colour, group.shape))
        return _draw_scene(fact, fact, random)

    lefts, rights = (scene(first), scene(second)), (scene(total - first), scene(total - second))
    pairs = [(lefts[0], rights[0]), (lefts[0], rights[1]), (lefts[1], rights[1]), (lefts[1], rights[0])]
    plural = Group(total, group.size, group.colour, group.shape).noun
    return _examples(f"there are exactly {TOTALS[total]} {group.colour} {plural} in total", pairs)


def _examples(sentence: str, pairs: Sequence[tuple[Scene, Scene]]) -> tuple[Example, ...]:
    return tuple(Example(left, right, sentence, number % 2 == 0) for number, (left, right) in enumerate(pairs))


def _draw_scene(fact: Fact, contrast: Fact, random: np.random.Generator) -> Scene:
    """A random scene that shows a fact, and nothing of the group that either fact speaks of beside it."""
    first = _resized(fact.group, random)
    if fact.other is not None:
        second, relation = _resized(fact.other, random), str(fact.relation)
        if relation not in RELATIONS:
            first, second = second, first
            relation = next(one for one, inverse in RELATIONS.items() if inverse == relation)
        return Scene(first, second, relation)
    taken = {(one.group.colour, one.group.shape) for one in (fact, contrast)}
    second = _draw_group(random)
    while (second.colour, second.shape) in taken:
        second = _draw_group(random)
    if random.random() < 0.5:
        first, second = second, first
    return Scene(first, second, _choose(list(RELATIONS), random))


def _draw_group(random: np.random.Generator) -> Group:
    count = int(random.integers(len(COUNTS))) + 1
    return Group(count, _choose(list(SIZES), random), _choose(list(COLOURS), random), _choose(SHAPES, random))


def _draw_relation(random: np.random.Generator) -> Fact:
    one, other = _draw_group(random), _draw_group(random)
    while (one.colour, one.shape) == (other.colour, other.shape):
        other = _draw_group(random)
    return Fact(one, _choose([*RELATIONS, *RELATIONS.values()], random), other)


def _changed(fact: Fact, aspect: str, random: np.random.Generator) -> Fact:
    """The fact with another count or colour, or the other way round."""
    if fact.other is not None:
        return Fact(fact.other, fact.relation, fact.group)
    group = fact.group
    while _name(group) == _name(fact.group):
        drawn = _draw_group(random)
        count, colour = (drawn.count, group.colour) if aspect == "count" else (group.count, drawn.colour)
        group = Group(count, group.size, colour, group.shape)
    return Fact(group)


def _resized(group: Group, random: np.random.Generator) -> Group:
    return Group(group.count, _choose(list(SIZES), random), group.colour, group.shape)


def _name(group: Group) -> str:
    """A group in words, whatever its size."""
    article = COUNTS[group.count - 1]
    return f"{'an' if article == 'a' and group.colour[0] in 'aeiou' else article} {group.colour} {group.noun}"


def _choose(items: Sequence[Item], random: np.random.Generator) -> Item:
    return items[int(random.integers(len(items)))]
