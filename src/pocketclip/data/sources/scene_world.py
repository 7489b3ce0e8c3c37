"""What drawn scenes are made of, and what can be said of them."""

from dataclasses import dataclass

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
        return self._counted(f"{self.size} {self.colour}")

    @property
    def noun(self) -> str:
        """The shape's name in the number there is of it."""
        plural = {"cross": "crosses"}.get(self.shape, f"{self.shape}s")
        return self.shape if self.count == 1 else plural

    @property
    def without_size(self) -> str:
        """In words that are as true of it in another size."""
        return self._counted(self.colour)

    @property
    def statement(self) -> str:
        """That it is there, in any size."""
        return f"there {'is' if self.count == 1 else 'are'} {self.without_size}"

    def _counted(self, looks: str) -> str:
        count = COUNTS[self.count - 1]
        return f"{'an' if count == 'a' and looks[0] in 'aeiou' else count} {looks} {self.noun}"


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
            self.first.statement,
            self.second.statement,
            f"{self.first.statement} {places[0]}",
            f"{self.second.statement} {places[1]}",
            f"{self.first.statement} {self.relation} {self.second.without_size}",
            f"{self.second.statement} {RELATIONS[self.relation]} {self.first.without_size}",
        )

    @property
    def exchanged(self) -> "Scene":
        """Each group in the place of the other."""
        return Scene(self.second, self.first, self.relation)

    @property
    def placed(self) -> tuple[tuple[Group, str], ...]:
        """Each group with its place."""
        return tuple(zip((self.first, self.second), PLACES[self.relation], strict=True))


@dataclass(frozen=True)
class LoneGroup:
    """One group alone, where it would be beside another."""

    first: Group
    place: str

    @property
    def facts(self) -> tuple[str, ...]:
        """All that can be said of it without a size."""
        return self.first.statement, f"{self.first.statement} {self.place}"

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
