"""What a model was trained on, in a few kilobytes: enough to say how many pictures of a test it has seen."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pocketclip.errors import UserError

Numbers = npt.NDArray[np.int64]
MAX_KEPT = 1 << 15
"""Numbers that are kept, 256 KiB: all of a small set, of a larger one those with the lowest numbers."""
FILE = "trained_on.npy"


@dataclass(frozen=True)
class Sketch:
    """Numbers of pictures (`Source.picture_id`), of which a large set keeps the lowest: a random part of it."""

    num_pictures: int
    """Different ones in all."""
    lowest: Numbers
    """(n,), ascending."""

    @classmethod
    def of(cls, ids: Numbers) -> "Sketch":
        """Of pictures by their numbers; negative ones, which could not be read, do not count."""
        unique = np.unique(ids[ids >= 0])
        return cls(len(unique), unique[:MAX_KEPT])

    def joined(self, other: "Sketch | None") -> "Sketch":
        """Of what was trained on first, and of what came later."""
        if other is None:
            return self
        both = np.union1d(self.lowest[self.lowest <= other.limit], other.lowest[other.lowest <= self.limit])
        lowest = both[:MAX_KEPT]
        whole = self.is_whole and other.is_whole and len(both) <= MAX_KEPT
        least = max(self.num_pictures, other.num_pictures, len(both))
        # The share of all numbers that lie below the limit tells how many there are, where not all are kept
        estimate = len(lowest) if whole else round((len(lowest) - 1) / max(1, int(lowest[-1])) * 2.0**63)
        return Sketch(max(least, estimate), lowest)

    @property
    def is_whole(self) -> bool:
        """Whether all numbers are kept."""
        return self.num_pictures == len(self.lowest)

    @property
    def limit(self) -> int:
        """Below and at this number the sketch knows all that there are."""
        return (1 << 63) - 1 if self.is_whole else int(self.lowest[-1])

    def count_in(self, ids: Numbers) -> int:
        """How many of (N,) pictures are among those of the sketch: exactly, or estimated where it is not whole."""
        asked = ids[(ids >= 0) & (ids <= self.limit)]
        matches = int(np.isin(asked, self.lowest).sum())
        return matches if self.is_whole else round(matches / max(1, len(asked)) * int((ids >= 0).sum()))

    def save(self, folder: Path) -> None:
        """Write `trained_on.npy`."""
        np.save(folder / FILE, np.array([self.num_pictures, *self.lowest], np.int64), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> "Sketch | None":
        """What `save` wrote; None where there is none.

        Raises:
            UserError: the file is damaged, or not one of ours.
        """
        file = folder / FILE
        if not file.is_file():
            return None
        try:
            if file.stat().st_size > 8 * (MAX_KEPT + 1) + 4096:
                raise ValueError("too large")
            numbers = np.load(file, allow_pickle=False)
            if numbers.dtype != np.int64 or numbers.ndim != 1 or len(numbers) < 1 or numbers[0] < len(numbers) - 1:
                raise ValueError("other numbers than expected")
        except (OSError, ValueError, EOFError) as error:
            raise UserError(
                f"{file}: damaged ({error}); delete it, and overlaps with training are not told."
            ) from error
        return cls(int(numbers[0]), numbers[1:])
