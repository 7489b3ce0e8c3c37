"""How sure a number is: bootstrap intervals over images."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pocketclip.records import Interval

NUM_RESAMPLES = 1000
HitsAndCounts = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def bootstrap_ratio(hits: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], *, seed: int = 0) -> Interval:
    """sum(hits) / sum(counts) with its 95 % percentile interval, units resampled with replacement.

    A unit is an image with all its captions, because captions of one image succeed and fail together; resampling
    single captions would make the interval too narrow. The gallery stays as it is.

    Args:
        hits: (N,) successes of each unit.
        counts: (N,) trials of each unit.
        seed: of the resampling.
    """
    return bootstrap_ratios([(hits[:, None], counts[:, None])], seed=seed)[0][0]


def bootstrap_ratios(groups: Sequence[HitsAndCounts], *, seed: int = 0) -> tuple[list[Interval], Interval]:
    """Several ratios, each the mean over groups, and the mean of them all, with 95 % percentile intervals.

    The units of each group are resampled among themselves, all ratios from the same resamples.

    Args:
        groups: of each group, (N, R) successes and (N, R) trials of its units; R ratios.
        seed: of the resampling.

    Returns:
        R intervals, and that of the mean of the R ratios.
    """
    random = np.random.default_rng(seed)
    values = np.mean([hits.sum(axis=0) / counts.sum(axis=0) for hits, counts in groups], axis=0)
    resampled = np.empty((NUM_RESAMPLES, len(values)))
    for number in range(NUM_RESAMPLES):
        ratios = []
        for hits, counts in groups:
            size = len(hits)
            times = np.bincount(random.integers(0, size, size), minlength=size)
            ratios.append((times @ hits) / (times @ counts))
        resampled[number] = np.mean(ratios, axis=0)
    intervals = [_interval(value, column) for value, column in zip(values, resampled.T, strict=True)]
    return intervals, _interval(values.mean(), resampled.mean(axis=1))


def _interval(value: float, resampled: npt.NDArray[np.float64]) -> Interval:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(value=float(value), low=float(low), high=float(high))
