"""One item of the plan, as it was read."""

from dataclasses import dataclass

from pocketclip.data.source import Sample
from pocketclip.data.sources.reinforcement import Reinforcement


@dataclass(frozen=True, slots=True)
class Item:
    """An image, still encoded, with all that may be shown of it."""

    seed: int
    """Of the run."""
    epoch: int
    number: int
    """In the plan: of an image, or of a caption where an epoch passes over captions."""
    index: int
    """Of the image in its source."""
    sample: Sample
    stored: Reinforcement | None
    """Views, features and synthetic captions, of reinforced data."""

    @property
    def seeds(self) -> list[int]:
        """Names all that is drawn for the item, whatever batch, worker or run it is drawn in."""
        return [self.seed, self.epoch, self.number]

    @property
    def texts(self) -> list[str]:
        """Its captions, then the synthetic ones."""
        return [*self.sample.captions, *(() if self.stored is None else self.stored.synthetic)]
