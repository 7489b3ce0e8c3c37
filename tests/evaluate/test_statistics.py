"""Bootstrap intervals on simulated data whose truth is known."""

import numpy as np
import numpy.typing as npt
import pytest

from pocketclip.evaluate import statistics
from pocketclip.evaluate.statistics import bootstrap_ratio, bootstrap_ratios, resampled_ratios

Counts = npt.NDArray[np.float64]


def simulate(num_images: int, seed: int, captions: int = 5) -> tuple[Counts, Counts]:
    """Hits of images whose captions succeed and fail together: an image's own chance is drawn first; 0.5 on average."""
    random = np.random.default_rng(seed)
    chances = random.beta(0.5, 0.5, num_images)
    return random.binomial(captions, chances).astype(np.float64), np.full(num_images, float(captions))


def test_the_value_is_the_ratio_of_the_sums() -> None:
    interval = bootstrap_ratio(np.array([1.0, 0.0, 4.0]), np.array([1.0, 2.0, 5.0]))
    assert interval.value == 5 / 8


@pytest.mark.parametrize("seed", range(10))
def test_the_interval_holds_the_value(seed: int) -> None:
    interval = bootstrap_ratio(*simulate(30, seed))
    assert interval.low <= interval.value <= interval.high


def test_certain_data_have_an_interval_without_width() -> None:
    interval = bootstrap_ratio(np.array([5.0, 3.0]), np.array([5.0, 3.0]))
    assert (interval.value, interval.low, interval.high) == (1, 1, 1)


def test_equal_seeds_give_equal_intervals() -> None:
    hits, counts = simulate(50, 0)
    assert bootstrap_ratio(hits, counts, seed=3) == bootstrap_ratio(hits, counts, seed=3)
    assert bootstrap_ratio(hits, counts, seed=3) != bootstrap_ratio(hits, counts, seed=4)


def test_four_times_the_data_give_half_the_width() -> None:
    small, large = bootstrap_ratio(*simulate(100, 0)), bootstrap_ratio(*simulate(400, 0))
    assert (large.high - large.low) / (small.high - small.low) == pytest.approx(0.5, abs=0.1)


def test_single_trials_give_the_width_of_the_binomial_formula() -> None:
    hits = np.repeat([1.0, 0.0], [120, 280])
    interval = bootstrap_ratio(hits, np.ones(400))
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * np.sqrt(0.3 * 0.7 / 400), rel=0.1)


def test_captions_of_one_image_are_not_taken_as_independent() -> None:
    hits, counts = simulate(200, 0)
    single = np.concatenate([np.repeat([1.0, 0.0], [int(h), int(c - h)]) for h, c in zip(hits, counts, strict=True)])
    together, apart = bootstrap_ratio(hits, counts), bootstrap_ratio(single, np.ones(len(single)))
    assert together.value == apart.value
    assert together.high - together.low > 1.4 * (apart.high - apart.low)


@pytest.mark.slow
def test_about_95_of_100_intervals_hold_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "NUM_RESAMPLES", 300)  # for speed
    intervals = [bootstrap_ratio(*simulate(100, seed), seed=seed) for seed in range(300)]
    coverage = np.mean([interval.low <= 0.5 <= interval.high for interval in intervals])
    assert 0.91 <= coverage <= 0.98  # 0.95 with three standard errors of 300 simulations


def test_scores_of_several_galleries_are_averaged_and_so_are_means_of_scores() -> None:
    groups = [{"a": simulate(40, seed), "b": simulate(40, seed + 1)} for seed in (0, 2)]
    found = bootstrap_ratios(groups, {"mean": ("a", "b")})
    by_hand = {name: np.mean([group[name][0].sum() / group[name][1].sum() for group in groups]) for name in ("a", "b")}
    assert found["a"].value == pytest.approx(by_hand["a"])
    assert found["mean"].value == pytest.approx(np.mean(list(by_hand.values())))
    draws = resampled_ratios(groups, {"mean": ("a", "b")})
    assert draws["mean"] == pytest.approx((draws["a"] + draws["b"]) / 2)
    assert found["mean"].low == pytest.approx(np.percentile(draws["mean"], 2.5))


def test_one_score_alone_has_the_interval_that_it_has_among_others() -> None:
    units = {"a": simulate(40, 0), "b": simulate(40, 1)}
    assert bootstrap_ratios([units])["b"] == bootstrap_ratio(*units["b"])


def test_a_draw_without_a_trial_says_what_all_units_do() -> None:
    hits, counts = np.array([1.0, 0.0, 0.0]), np.array([2.0, 0.0, 0.0])  # two draws of three are without the first
    draws = resampled_ratios([{"rare": (hits, counts), "all": (hits, np.ones(3))}], {})
    assert set(draws["rare"].tolist()) == {1 / 2}
    assert len(set(draws["all"].tolist())) > 1
