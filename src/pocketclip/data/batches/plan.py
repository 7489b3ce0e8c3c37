"""Which items a step sees: it depends only on the seed and the step's number, so a resumed run goes on exactly."""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketclip.data.source import Sample
from pocketclip.data.sources.reinforcement import Reinforcement
from pocketclip.errors import UserError


@dataclass(frozen=True, slots=True)
class Item:
    """One item of the plan, as it was read: an image, still encoded, with all that may be shown of it."""

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


@dataclass(frozen=True)
class BatchPlan:
    """The order of a whole run: a fresh shuffle every epoch, whole batches only.

    The samples left over at an epoch's end are different ones each time.
    """

    num_samples: int
    batch_size: int
    seed: int
    key: str = "train.batch_size"
    """What a user sets the batch size by."""

    def __post_init__(self) -> None:
        if self.num_samples < self.batch_size:
            raise UserError(
                f"{self.key}: {self.batch_size} is more than the {self.num_samples} usable images; "
                f"set {self.key} to at most {self.num_samples}, or bring more data."
                + (" A contrastive batch needs 2." if self.num_samples < 2 else "")
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over the data."""
        return self.num_samples // self.batch_size

    def batch(self, step: int) -> tuple[int, npt.NDArray[np.int64]]:
        """The epoch and the sample numbers of a step, both counted from 0."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return epoch, self.order(epoch)[position * self.batch_size : (position + 1) * self.batch_size]

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Every sample's number once, in the order of an epoch."""
        return _shuffled(self.num_samples, self.seed, epoch)

    def share(self, rank: int, world_size: int) -> slice:
        """The places of every batch that a rank works on; the batches themselves do not depend on their number.

        Raises:
            UserError: a rank would have nothing to do.
        """
        if self.batch_size < world_size:
            raise UserError(
                f"train.batch_size: {self.batch_size} pairs cannot be shared by {world_size} processes; "
                f"set train.batch_size to at least {world_size}, or start fewer processes."
            )
        return slice(self.batch_size * rank // world_size, self.batch_size * (rank + 1) // world_size)


@functools.lru_cache(maxsize=2)
def _shuffled(num_samples: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(num_samples)
