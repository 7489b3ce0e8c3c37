"""A power law through errors, `error = a * x^-b + c`, and how far it can be trusted.

`x` is compute or another scale. For one `b` the law is linear in `a` and `c`, so that a search over `b` alone finds the
best one, of many resamples at once. Residuals are relative to the error, which is where a law of this kind bends.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketclip.errors import UserError
from pocketclip.evaluate.intervals import student_t
from pocketclip.records import Interval

Floats = npt.NDArray[np.float64]
FEWEST_POINTS, NARROWEST = 4, 4.0
"""Points of different x that a law needs, and the largest x over the smallest."""
_FLOOR = 0.01
"""Of the error: what a point may be off beside its own interval, so that one of a narrow interval does not decide."""
_LEAST = 1e-6
"""In the place of no error at all, which no law reaches."""
_RESAMPLES = 2000
_EXPONENTS = np.geomspace(0.005, 4.0, 240)


@dataclass(frozen=True)
class PowerLaw:
    """A law and its resamples; `x` is divided by its geometric mean, `middle`, so that `a` is about the error there."""

    a: Interval
    b: Interval
    c: Interval | None
    """What remains at endless x; None where the points do not tell it from 0."""
    middle: float
    residuals: tuple[float, ...]
    """Of each point, in its own order: by how much it lies above the law, as a share of the law."""
    spread: float
    """Root mean square of the residuals, for as many points as are not spent on the law."""
    resamples: Floats
    """(R, 4): a, b, c and the spread of each; the second half is the first, moved to the other side."""

    def at(self, x: float) -> Interval:
        """The law at an x, with the interval of the law itself."""
        return self._at(x, np.zeros(len(self.resamples)))

    def predict(self, x: float) -> Interval:
        """What a new point at an x may be: the law's doubt and a point's own distance from it."""
        noise = np.random.default_rng(1).standard_normal(len(self.resamples) // 2)
        return self._at(x, np.concatenate([noise, -noise]) * self.resamples[:, 3])

    def _at(self, x: float, noise: Floats) -> Interval:
        a, b, c, _ = self.resamples.T
        values = (a * (x / self.middle) ** -b + c) * (1 + noise)
        value = self.a.value * (x / self.middle) ** -self.b.value + (self.c.value if self.c else 0.0)
        return _interval(value, values)

    def formula(self) -> str:
        """`0.63 (x / 1.2e+12)^-0.17 + 0.05`."""
        rest = f" + {self.c.value:.3g}" if self.c else ""
        return f"{self.a.value:.3g} (x / {self.middle:.3g})^-{self.b.value:.3g}{rest}"


def has_enough_points(x: Sequence[float]) -> bool:
    """Whether a law can be fitted to points at these x."""
    return len(set(x)) >= FEWEST_POINTS and max(x) >= NARROWEST * min(x) > 0


def fit_power_law(x: Sequence[float], errors: Sequence[Interval], *, resamples: int = _RESAMPLES) -> PowerLaw:
    """Fit a law to errors, with intervals by a bootstrap over the points and their own intervals.

    Each resample moves every point off the law by what points are off it, or by its own interval where that is wider,
    and fits again. How far points are off is itself drawn, since few points tell little of it: with four points and
    two numbers to find, it is known from two degrees of freedom. `c` is kept where it betters the fit surely (F test).

    Raises:
        UserError: too few points of different x, or too near to each other.
    """
    if not has_enough_points(x):
        raise UserError(
            f"A power law needs {FEWEST_POINTS} points of different x, the largest {NARROWEST:g} times the smallest "
            f"(got {', '.join(f'{value:g}' for value in sorted(x))})."
        )
    places, values = np.asarray(x, float), np.array([max(error.value, _LEAST) for error in errors])
    middle = float(np.exp(np.log(places).mean()))
    scaled, own = places / middle, np.array([(error.high - error.low) / 2 / 1.96 for error in errors]) / values
    weights = 1 / (own**2 + _FLOOR**2)
    weights /= weights.mean()
    plain, full = (_fit(scaled, values[None], weights, constant=constant)[0] for constant in (False, True))
    loss = [float((weights * _off(scaled, values, law) ** 2).sum()) for law in (plain, full)]
    degrees = len(values) - 3
    keeps = degrees > 1 and full[2] > 0 and loss[0] > 1e-12 and (
        (loss[0] - loss[1]) * degrees > loss[1] * student_t(degrees) ** 2
    )  # fmt: skip
    law, degrees = (full, degrees) if keeps else (plain, degrees + 1)
    off = _off(scaled, values, law)
    spread = float(np.sqrt((weights * off**2).sum() / degrees))
    laws, spreads = _resampled(scaled, law, spread, degrees, own, weights, constant=bool(keeps), resamples=resamples)
    a, b, c = (_interval(value, laws[:, number]) for number, value in enumerate(law.tolist()))
    return PowerLaw(a, b, c if keeps else None, middle, tuple(off.tolist()), spread, np.column_stack([laws, spreads]))


def _resampled(
    x: Floats, law: Floats, spread: float, degrees: int, own: Floats, weights: Floats, *, constant: bool,
    resamples: int,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Laws of points that lie off `law` by as much as points may, and how much that was; each draw to both sides."""
    generator, half = np.random.default_rng(0), resamples // 2
    spreads = np.tile(spread * np.sqrt(degrees / generator.chisquare(degrees, half)), 2)
    noise = generator.standard_normal((half, len(x)))
    noise = np.concatenate([noise, -noise]) * np.maximum(spreads[:, None], own)
    return _fit(x, np.maximum(_curve(x, law) * (1 + noise), _LEAST), weights, constant=constant), spreads


def _interval(value: float, values: Floats) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5]).tolist()
    return Interval(value=value, low=min(low, value), high=max(high, value))


def _curve(x: Floats, law: Floats) -> Floats:
    a, b, c = law
    curve: Floats = a * x**-b + c
    return curve


def _off(x: Floats, values: Floats, law: Floats) -> Floats:
    off: Floats = values / _curve(x, law) - 1
    return off


def _fit(x: Floats, values: Floats, weights: Floats, *, constant: bool) -> Floats:
    """(R, 3) laws of (R, N) values: the best exponent of a grid that all share, then of finer ones around each own."""
    share, rows = weights / values**2, np.arange(len(values))  # residuals are relative
    powers = np.exp(-_EXPONENTS[:, None] * np.log(x))  # (E, N)
    sums = share @ (powers**2).T, share @ powers.T, (share * values) @ powers.T
    laws, losses = _solve(*sums, share, values, constant=constant)
    exponents, step = _EXPONENTS[losses.argmin(axis=1)], float(np.log(_EXPONENTS[1] / _EXPONENTS[0]))
    for _ in range(4):
        near = exponents[:, None] * np.exp(np.linspace(-step, step, 9))  # (R, 9)
        powers = np.exp(-near[:, :, None] * np.log(x))
        sums = tuple(np.einsum("ren,rn->re", own, part) for own, part in (
            (powers**2, share), (powers, share), (powers, share * values)
        ))  # fmt: skip
        laws, losses = _solve(*sums, share, values, constant=constant)
        best = losses.argmin(axis=1)
        exponents, step = near[rows, best], step / 4
    a, c = laws[rows, best].T
    return np.column_stack([a, exponents, c])


def _solve(
    pp: Floats, p1: Floats, pv: Floats, share: Floats, values: Floats, *, constant: bool
) -> tuple[Floats, Floats]:
    """(R, E, 2) a and c for each exponent, and their (R, E) losses: two normal equations.

    `pp`, `p1` and `pv` are sums over points of their share times the powers squared, the powers, and powers times
    values.
    """
    one, v1 = share.sum(axis=1, keepdims=True), (share * values).sum(axis=1, keepdims=True)
    a, c = pv / pp, np.zeros_like(pp)
    if constant:
        free = (pp * v1 - p1 * pv) / np.maximum(pp * one - p1**2, 1e-30)
        kept = (free > 0) & (pv - p1 * free > 0)  # what remains is no less than nothing, and errors fall
        a, c = np.where(kept, (pv - p1 * free) / pp, a), np.where(kept, free, 0.0)
    loss = a**2 * pp + 2 * a * c * p1 + c**2 * one - 2 * a * pv - 2 * c * v1  # but for what all have
    return np.stack([a, c], axis=-1), loss
