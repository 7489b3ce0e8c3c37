"""How sure a mean over seeds is, and a difference between two rows."""

import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pocketclip.records import Interval

Floats = npt.NDArray[np.float64]
_T = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)


def student_t(degrees: int) -> float:
    """The 97.5 % quantile of Student's t; by hand, because scipy is no dependency of ours for one number.

    Above ten degrees of freedom by the expansion in 1 / degrees (Abramowitz and Stegun 26.7.5), right to 2e-4.
    """
    if degrees <= len(_T):
        return _T[degrees - 1]
    z = 1.959964
    terms = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + math.fsum(term / float(degrees) ** (number + 1) for number, term in enumerate(terms))


@functools.cache
def student_quantile(degrees: int, coverage: float) -> float:
    """Student's t that holds a `coverage` other than 95 %, of whole degrees (Abramowitz and Stegun 26.7.3-4).

    >>> round(student_quantile(2, 0.95), 4), round(student_quantile(30, 0.999), 3)
    (4.3027, 3.646)
    """
    degrees = min(degrees, 1000)  # from there on it moves by less than 1e-3 and the series grows long
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_share(degrees, middle) < coverage else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _student_share(degrees: int, angle: float) -> float:
    """What lies within t = sqrt(degrees) tan(angle), as its finite series."""
    odd = degrees % 2
    term, total = (math.cos(angle), 0.0) if odd else (1.0, 0.0)
    for number in range((degrees - odd) // 2):
        total += term
        place = 2 * number + 1
        term *= (place + odd) / (place + 1 + odd) * math.cos(angle) ** 2
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def meaning(unit: str) -> str:
    """What the intervals of a study are, by what its task resamples."""
    return (
        f"95 %: resampling of the {unit} (of the mean over seeds; for a difference both rows' scores on the same "
        f"{unit}) joined in quadrature with Student's t over seeds. With one seed they hold the {unit} only, and not "
        "what another seed would give."
    )


def seed_half_width(values: Sequence[float]) -> float:
    """Half of Student's 95 % interval of a mean over seeds; 0 for one seed, of whose spread nothing is known."""
    if len(values) < 2:
        return 0.0
    return student_t(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def join(value: float, resamples: Floats | None, values: Sequence[float]) -> Interval:
    """A mean over seeds, or a mean difference, with both of its doubts.

    The units' percentile interval and the seeds' Student interval are independent to a good approximation, so
    their distances from the value join as root of the sum of squares, each side by itself (Zou and Donner 2008).

    `resamples` are (R,) of the value over units such as images, None where the scores of single units are not known;
    `values` are those of each seed.
    """
    low, high = (value, value) if resamples is None else np.percentile(resamples, [2.5, 97.5]).tolist()
    below, above = value - low, high - value
    half = seed_half_width(values)
    return Interval(value=value, low=value - math.hypot(below, half), high=value + math.hypot(above, half))
