"""True captions among false ones, as benchmarks of composition ask: which of them is nearer to the picture?"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Choices:
    """E examples: a picture, a true caption and false ones, which stand among the captions of the picture's sample."""

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
