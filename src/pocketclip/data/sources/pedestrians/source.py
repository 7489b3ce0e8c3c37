"""Drawn pedestrians with identities: several views of each, and captions as people write them.

Nothing is stored: a view is drawn when it is read. Nobody of one split shares the full description of somebody in
another, whatever the settings.
"""

import random
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from pocketclip.data.keys import content_id
from pocketclip.data.source import Gift, Sample, Source, SourceSettings
from pocketclip.data.sources.pedestrians.camera import draw_pedestrian
from pocketclip.data.sources.pedestrians.figure import FACINGS
from pocketclip.data.sources.pedestrians.words import captions
from pocketclip.data.sources.pedestrians.world import Person, Split, people

VERSION = 1
"""Of the drawing and the words."""


class PedestriansSourceConfig(SourceSettings):
    """`pedestrians:1000` or `pedestrians:250,split=test`."""

    positional: ClassVar[tuple[str, ...]] = ("count",)
    gives: ClassVar[frozenset[Gift]] = frozenset({"captions", "identities"})
    kind: Literal["pedestrians"] = "pedestrians"
    count: int = Field(default=1000, ge=1, le=100_000)
    """Of people; those of a smaller number are the first of a larger one."""
    split: Split = "train"
    views: PositiveInt = Field(default=4, le=100)
    """Pictures of each person, no two from the same side until all four sides were seen."""
    seed: NonNegativeInt = 0
    sides: bool = False
    """Whether captions say on which side of the body a bag is, so that a mirrored picture has another caption."""

    def read(self) -> "PedestriansSource":
        """Nothing to read: people are drawn on demand."""
        return PedestriansSource(f"pedestrians:{self.count}#{self.split}", self)


@dataclass(frozen=True)
class PedestriansSource(Source):
    """`count` people, the views of each one behind the other."""

    name: str
    settings: PedestriansSourceConfig
    drawn = True
    has_identities = True

    def __len__(self) -> int:
        return self.settings.count * self.settings.views

    def sample(self, index: int) -> Sample:
        facing, chance = self._view(index, "picture")
        image = draw_pedestrian(self.person(index), facing, chance)
        told = (self.captions(index), self.place(index), None, self.metadata(index), self.identity(index))
        return Sample(self.key(index), image, *told)

    @cached_property
    def people(self) -> list[Person]:
        """Everybody, in order."""
        return people(self.settings.count, self.settings.split, self.settings.seed)

    def person(self, index: int) -> Person:
        """Whom picture number `index` shows."""
        return self.people[index // self.settings.views]

    def key(self, index: int) -> str:
        return f"{self.identity(index)}-{index % self.settings.views:02d}"

    def identity(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return f"{self.settings.split}-{index // self.settings.views:05d}"

    def place(self, index: int) -> str:
        return f"{self.name}: person {index // self.settings.views}, view {index % self.settings.views}"

    def picture_id(self, index: int) -> int:
        """Of what is drawn; nothing is."""
        return content_id(f"pedestrian {self.settings.seed} {self.key(index)}".encode())

    def captions(self, index: int) -> tuple[str, ...]:
        """Two sentences by different writers, who leave different parts unsaid."""
        facing, chance = self._view(index, "words")
        return captions(self.person(index), facing, chance, sides=self.settings.sides)

    def metadata(self, index: int) -> dict[str, Any]:
        return {"split": self.settings.split, "facing": self._view(index, "")[0]}

    def stamp(self) -> Any:
        return ["pedestrians", VERSION, self.settings.model_dump()]

    def _view(self, index: int, of: str) -> tuple[str, random.Random]:
        """From where somebody is seen, and what the rest of a view hangs on: never on how many there are."""
        person, view = divmod(index, self.settings.views)
        own = f"{self.settings.seed}/{self.settings.split}/{person}"
        around, start = tuple(FACINGS), random.Random(own).randrange(len(FACINGS))
        return around[(start + view) % len(around)], random.Random(f"{own}/{view}/{of}")
