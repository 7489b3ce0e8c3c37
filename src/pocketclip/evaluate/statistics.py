"""How sure a number is: bootstrap intervals over images."""

import numpy as np
import numpy.typing as npt

from pocketclip.records import Interval

NUM_RESAMPLES = 1000


def bootstrap_ratio(hits: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], *, seed: int = 0) -> Interval:
    """sum(hits) / sum(counts) with its 95 % percentile interval, units resampled with replacement.

    A unit is an image with all its captions, because captions of one image succeed and fail together; resampling
    single captions would make the interval too narrow. The gallery stays as it is.

    Args:
        hits: (N,) successes of each unit.
        counts: (N,) trials of each unit.
        seed: of the resampling.
    """
    value = float(hits.sum() / counts.sum())
    random = np.random.default_rng(seed)
    size = len(hits)
    ratios = np.empty(NUM_RESAMPLES)
    for number in range(NUM_RESAMPLES):
        times = np.bincount(random.integers(0, size, size), minlength=size)
        ratios[number] = float(times @ hits) / float(times @ counts)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Interval(value=value, low=float(low), high=float(high))
