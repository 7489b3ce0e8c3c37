"""What is true of samples beside their captions: of several captions or pictures which, and of two pictures whether."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """P examples of two images: samples 2 p and 2 p + 1 are the left and the right one of example p.

    The only caption of either is the example's sentence.
    """

    labels: npt.NDArray[np.bool_]
    """(P,), whether the sentence is true."""
    sentences: npt.NDArray[np.int64]
    """(P,), equal for examples of one sentence, which are consistent where all are judged rightly."""


@dataclass(frozen=True)
class Associations:
    """A words that go with some of several pictures each, its candidates, which stand one behind the other."""

    cues: tuple[str, ...]
    """(A,), the words."""
    sizes: Numbers
    """(A,), how many candidates each has."""
    samples: Numbers
    """(M,), number of each candidate in the source, M the sum of `sizes`."""
    right: npt.NDArray[np.bool_]
    """(M,), whether the word goes with the candidate."""


@dataclass(frozen=True)
class Choices:
    """E examples of true captions among false ones, as benchmarks of composition ask.

    Each is a picture, a true caption and false ones, which stand among the captions of the picture's sample.
    """

    samples: Numbers
    """(E,), number of the picture in the source."""
    firsts: Numbers
    """(E,), place of the true caption among those of the sample; the false ones follow it."""
    sizes: Numbers
    """(E,), how many captions there are to choose from, 2 at least."""
    kinds: Numbers
    """(E,), in what way the captions are false."""
    names: tuple[str, ...]
    """Of the kinds."""
    twins: bool = False
    """Whether examples 2 p and 2 p + 1 are two pictures that share two captions, each true of one of them."""

    def part(self, chosen: Numbers, num_samples: int) -> "Choices":
        """Those of some samples, which are numbered anew; twins that were torn apart are left out."""
        number = np.full(num_samples, -1)
        number[chosen] = np.arange(len(chosen))
        samples = number[self.samples]
        kept = samples >= 0
        if self.twins:
            kept = np.repeat(kept[::2] & kept[1::2], 2)
        return Choices(samples[kept], self.firsts[kept], self.sizes[kept], self.kinds[kept], self.names, self.twins)
