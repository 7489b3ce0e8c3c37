"""Intervals over seeds and pictures: known quantiles, the record's own interval for one seed, paired differences."""

import math

import numpy as np
import pytest

from pocketclip.evaluate.intervals import join, meaning, seed_half_width, student_quantile, student_t
from pocketclip.evaluate.statistics import bootstrap_ratio, resampled_ratios

RANDOM = np.random.default_rng(3)


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.7062), (2, 4.3027), (10, 2.2281), (11, 2.2010), (20, 2.0860), (1000, 1.9623)]
)
def test_quantiles_are_those_of_the_tables(degrees: int, quantile: float) -> None:
    assert student_t(degrees) == pytest.approx(quantile, abs=2e-4)


@pytest.mark.parametrize(
    ("degrees", "coverage", "quantile"),
    [(1, 0.999, 636.6192), (2, 0.99999, 316.2254), (3, 0.95, 3.182446), (23, 0.999, 3.767627), (200, 0.95, 1.971896),
     (10_000, 0.95, 1.9602)],
)  # fmt: skip
def test_students_quantiles_of_any_coverage_are_the_tabled_ones(degrees: int, coverage: float, quantile: float) -> None:
    assert student_quantile(degrees, coverage) == pytest.approx(quantile, rel=2e-3 if degrees > 1000 else 1e-6)


def test_seeds_alone_give_students_interval() -> None:
    values = [0.1, 0.2, 0.3]
    assert seed_half_width(values) == pytest.approx(4.3027 * 0.1 / math.sqrt(3), rel=1e-4)
    interval = join(0.2, None, values)
    assert (interval.high - 0.2) == pytest.approx(0.2 - interval.low) == pytest.approx(seed_half_width(values))
    assert seed_half_width([0.5]) == 0


def test_one_seed_has_the_interval_of_its_own_record() -> None:
    counts = np.full(50, 5.0)
    hits = RANDOM.integers(0, 6, 50).astype(np.float64)
    shares = resampled_ratios([{"hits": (hits, counts)}], {})["hits"]
    value = float(hits.sum() / counts.sum())
    ours, theirs = join(value, shares, [value]), bootstrap_ratio(hits, counts)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_the_meaning_speaks_of_what_the_task_resamples() -> None:
    assert "pictures" not in meaning("sentences")
    assert meaning("sentences").count("sentences") == 3


def test_both_doubts_join_as_root_of_the_sum_of_squares() -> None:
    resamples = np.linspace(0.0, 1.0, 1001)
    values = [0.45, 0.5, 0.55]
    joined = join(0.5, resamples, values)
    assert joined.high - 0.5 == pytest.approx(math.hypot(0.475, seed_half_width(values)))


def test_a_difference_on_the_same_pictures_is_surer_than_two_scores() -> None:
    """Pictures are hard or easy for both rows; the second finds a few more."""
    easy = (RANDOM.random(400) < 0.5).astype(np.float64)
    better = np.maximum(easy, RANDOM.random(400) < 0.05)
    ones = np.ones(400)
    plus, minus = (resampled_ratios([{"": (hits, ones)}], {})[""] for hits in (better, easy))
    paired = join(float(better.mean() - easy.mean()), plus - minus, [0.0])
    alone = join(float(better.mean()), plus, [0.0])
    assert paired.high - paired.low < 0.6 * (alone.high - alone.low)
    assert paired.low > 0
