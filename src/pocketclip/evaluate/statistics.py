"""How sure a number is: bootstrap intervals over units such as images."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pocketclip.records import Interval

NUM_RESAMPLES = 1000
MOST_KEPT = 5_000_000
"""Numbers of draws that are kept in memory, 40 MB of them."""
Floats = npt.NDArray[np.float64]
Units = Mapping[str, tuple[Floats, Floats]]
"""Of each score that is a share: (N,) successes and (N,) trials of every unit, the same N units for all scores.

A unit is what succeeds and fails together, such as an image with all its captions: resampling single captions would
make an interval too narrow.
"""
Means = Mapping[str, Sequence[str]]
"""Scores that are the mean of others, such as `mean_recall`: their names, and those of the others."""


def ratios(groups: Sequence[Units], means: Means) -> dict[str, float]:
    """Every score by its name: successes over trials, averaged over groups, and the means; see `resampled_ratios`."""
    shares = [[float(hits.sum() / counts.sum()) for hits, counts in group.values()] for group in groups]
    scores = dict(zip(groups[0], np.mean(shares, axis=0).tolist(), strict=True))
    return scores | {
        name: float(np.mean([scores[part] for part in parts])) for name, parts in measured(means, scores).items()
    }


def resampled_ratios(
    groups: Sequence[Units], means: Means, *, seed: int = 0, asked: Collection[str] | None = None
) -> dict[str, Floats]:
    """(R,) of each score by its name: the same scores in R draws of units with replacement; the gallery stays.

    The units of each group, a gallery that was ranked apart, are drawn among themselves, all scores from the same
    draws. Of runs that were tested on the same units the draws are the same, so that a difference of two results is
    that of a paired resampling. A draw without a trial of a score, as happens where few units have one, says what all
    units do. Only scores that are `asked` for are sure to be there, all where it is None.
    """
    names = list(groups[0])
    if asked is not None:
        parts = {part for name in asked for part in means.get(name, [name])}
        needed = [name for name in names if name in parts]
        hits, counts = _stacked(groups, needed)
        sizes = tuple(own.shape[1] for own in hits)
        if NUM_RESAMPLES * sum(sizes) <= MOST_KEPT and all(map(_adds_exactly, [*hits, *counts])):
            resampled = np.mean(list(map(_shares, hits, counts, _kept_draws(sizes, seed))), axis=0)
            return _with_means(needed, resampled, {name: each for name, each in means.items() if name in asked})
    hits, counts = _stacked(groups, names)
    resampled = np.empty((NUM_RESAMPLES, len(names)))
    for number, draws in enumerate(_draws([own.shape[1] for own in hits], seed)):
        resampled[number] = np.mean(list(map(_shares, hits, counts, draws)), axis=0)
    return _with_means(names, resampled, means)


def _with_means(names: Sequence[str], resampled: Floats, means: Means) -> dict[str, Floats]:
    scores = dict(zip(names, resampled.T, strict=True))
    return scores | {
        name: np.mean([scores[part] for part in parts], axis=0) for name, parts in measured(means, scores).items()
    }


def measured(means: Means, scores: Collection[str]) -> dict[str, Sequence[str]]:
    """The means whose parts are all among the scores."""
    return {name: parts for name, parts in means.items() if all(part in scores for part in parts)}


def _stacked(groups: Sequence[Units], names: Sequence[str]) -> tuple[list[Floats], list[Floats]]:
    """(S, N) successes and trials of each group."""
    hits, counts = ([np.stack([group[name][part] for name in names]) for group in groups] for part in (0, 1))
    return hits, counts


def _draws(sizes: Sequence[int], seed: int) -> Iterator[list[Floats]]:
    """Of each draw and group (N,) how often each unit is in it."""
    random = np.random.default_rng(seed)
    for _ in range(NUM_RESAMPLES):
        yield [np.bincount(random.integers(0, size, size), minlength=size).astype(np.float64) for size in sizes]


@lru_cache(maxsize=2)
def _kept_draws(sizes: tuple[int, ...], seed: int) -> list[Floats]:
    """(R, N) of each group: all draws, which the thousands of models of a study share."""
    return [np.stack(draws) for draws in zip(*_draws(sizes, seed), strict=True)]


def _adds_exactly(values: Floats) -> bool:
    """Whether sums are the same bit for bit in whatever order: whole numbers, halves, quarters and the like."""
    whole = values * 1024
    return bool(np.array_equal(whole, np.rint(whole)) and np.abs(whole).sum() * len(whole.T) < 2**53)


def _shares(hits: Floats, counts: Floats, times: Floats) -> Floats:
    """Successes over trials of each score, (S,) of one draw or (R, S); without a trial, what all units do."""
    if times.ndim == 1:
        drawn, found = counts @ times, hits @ times
    else:
        drawn, found = times @ counts.T, times @ hits.T
    whole = np.broadcast_to(hits.sum(1) / counts.sum(1), drawn.shape).copy()
    shares: Floats = np.divide(found, drawn, out=whole, where=drawn > 0)
    return shares


def bootstrap_ratios(groups: Sequence[Units], means: Means = {}, *, seed: int = 0) -> dict[str, Interval]:  # noqa: B006
    """Every score of `ratios` with its 95 % percentile interval."""
    resampled = resampled_ratios(groups, means, seed=seed)
    bounds = {name: np.percentile(draws, [2.5, 97.5]).tolist() for name, draws in resampled.items()}
    return {
        name: Interval(value=value, low=bounds[name][0], high=bounds[name][1])
        for name, value in ratios(groups, means).items()
    }


def bootstrap_ratio(hits: Floats, counts: Floats, *, seed: int = 0) -> Interval:
    """The only score of `bootstrap_ratios`, from (N,) successes and (N,) trials of the units."""
    return bootstrap_ratios([{"": (hits, counts)}], seed=seed)[""]


def mean_of_classes(hits: Floats, classes: npt.NDArray[np.int64]) -> float:
    """The mean of each class's own share of (N,) `hits`, over the classes that occur in (N,) `classes`."""
    counts = np.bincount(classes)
    return float((np.bincount(classes, hits)[counts > 0] / counts[counts > 0]).mean())


def bootstrap_mean_of_classes(hits: Floats, classes: npt.NDArray[np.int64], *, seed: int = 0) -> Interval:
    """`mean_of_classes` with its 95 % percentile interval over units, in the draws of `resampled_ratios`.

    A class that is in no unit of a draw is left out of that draw's mean.
    """
    random, size = np.random.default_rng(seed), len(hits)
    resampled = np.empty(NUM_RESAMPLES)
    for number in range(NUM_RESAMPLES):
        times = np.bincount(random.integers(0, size, size), minlength=size).astype(np.float64)
        counts = np.bincount(classes, times)
        there = counts > 0
        resampled[number] = (np.bincount(classes, times * hits)[there] / counts[there]).mean()
    low, high = np.percentile(resampled, [2.5, 97.5]).tolist()
    return Interval(value=mean_of_classes(hits, classes), low=low, high=high)


def bootstrap_statistic(statistic: Callable[[Floats], float], size: int, *, seed: int = 0) -> Interval:
    """What follows from how often each of `size` units is there, (N,), with its 95 % percentile interval over them.

    For scores that are no mean of shares, such as the least of several. The draws are those of `resampled_ratios`.
    """
    resampled = [statistic(times) for (times,) in _draws([size], seed)]
    low, high = np.percentile(resampled, [2.5, 97.5]).tolist()
    return Interval(value=statistic(np.ones(size)), low=low, high=high)
