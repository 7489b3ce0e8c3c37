"""Power laws: known ones come back, their intervals hold, and a published series is predicted."""

from pathlib import Path

import numpy as np
import pytest

from pocketclip.errors import UserError
from pocketclip.records import Interval
from pocketclip.study.power_law import fit_power_law, has_enough_points

SAMPLES = [12.8e6, 30e6, 64e6, 128e6, 300e6]
DATACOMP = {  # GFLOPs of a sample; ImageNet zero-shot accuracy of CLIP on DataComp-1.4B (arXiv 2506.04598)
    "S/32": (5.5, [10.2, 18.7, 27.0, 35.4, 44.0]),
    "M/32": (9.7, [10.5, 20.1, 29.2, 38.3, 47.8]),
    "S/16": (11.8, [13.4, 23.7, 32.9, 42.3, 50.5]),
    "B/32": (14.5, [11.2, 21.6, 31.2, 40.4, 50.3]),
}


def exact(values: object, half: float = 0.0) -> list[Interval]:
    return [Interval(value=value, low=value - half, high=value + half) for value in np.asarray(values).tolist()]


@pytest.mark.parametrize(("a", "b", "c"), [(0.8, 0.2, 0.0), (0.5, 1.3, 0.0), (0.8, 0.4, 0.1), (2.0, 0.05, 0.0)])
def test_a_law_comes_back_from_its_points(a: float, b: float, c: float) -> None:
    x = np.geomspace(1e9, 1e12, 12)
    law = fit_power_law(x, exact(a * (x / 1e9) ** -b + c))
    assert law.b.value == pytest.approx(b, rel=2e-3)
    assert (law.c.value if law.c else 0.0) == pytest.approx(c, abs=1e-3)
    assert law.a.value == pytest.approx(a * (law.middle / 1e9) ** -b, rel=2e-3)
    assert law.at(1e13).value == pytest.approx(a * 1e4**-b + c, rel=5e-3)
    assert max(map(abs, law.residuals)) < 1e-3


def test_what_remains_is_kept_only_where_the_points_tell_it() -> None:
    x, noise = np.geomspace(1, 8, 6), np.random.default_rng(0).standard_normal(6)
    errors = 0.5 * x**-0.3 + 0.05
    assert fit_power_law(x, exact(errors * (1 + 0.03 * noise))).c is None
    wide = np.geomspace(1, 1e4, 12)
    law = fit_power_law(wide, exact(0.5 * wide**-0.5 + 0.05, 0.001))
    assert law.c is not None
    assert law.c.low <= 0.05 <= law.c.high
    assert law.formula().endswith(" + 0.05")


@pytest.mark.parametrize("num_points", [4, 6, 12])
def test_its_intervals_hold_the_truth_as_often_as_they_say(num_points: int) -> None:
    noise, held = np.random.default_rng(num_points), []
    x = np.geomspace(1, 30, num_points)
    for _ in range(150):
        law = fit_power_law(x, exact(0.8 * x**-0.2 * (1 + 0.02 * noise.standard_normal(num_points))), resamples=300)
        new = 0.8 * 100**-0.2 * (1 + 0.02 * noise.standard_normal())
        held.append([law.b.low <= 0.2 <= law.b.high, law.predict(100).low <= new <= law.predict(100).high])
    assert (np.mean(held, axis=0) > 0.86).all()


def test_points_of_wide_intervals_make_a_wide_one() -> None:
    x = np.geomspace(1, 30, 6)
    narrow, wide = (fit_power_law(x, exact(0.8 * x**-0.2, half)).b for half in (0.001, 0.1))
    assert wide.high - wide.low > 10 * (narrow.high - narrow.low)
    assert fit_power_law(x, exact(0.8 * x**-0.2, 0.1)).b == wide  # the same each time


@pytest.mark.parametrize("name", DATACOMP)
def test_a_published_series_is_predicted_within_the_interval(name: str) -> None:
    flops, accuracy = DATACOMP[name]
    x = [flops * 1e9 * count for count in SAMPLES]
    errors = exact(1 - np.asarray(accuracy) / 100, 0.0044)  # of 50,000 images
    law = fit_power_law(x[:4], errors[:4])
    predicted, truth = law.predict(x[4]), errors[4].value
    assert predicted.low <= truth <= predicted.high
    assert 0.005 < predicted.value - truth < 0.025  # the series bends: each law expects too much error
    assert law.residuals[0] < 0 < law.residuals[1]
    assert law.residuals[3] < 0 < law.residuals[2]


def test_the_guide_shows_this_check() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    for name, (flops, accuracy) in DATACOMP.items():
        x, errors = [flops * 1e9 * count for count in SAMPLES], exact(1 - np.asarray(accuracy) / 100, 0.0044)
        law = fit_power_law(x[:4], errors[:4])
        b, predicted = law.b, law.predict(x[4])
        line = (
            f"| ViT-{name} | {flops:g} | {b.value:.3f} [{b.low:.3f}, {b.high:.3f}] | {predicted.percent()} | "
            f"{100 - accuracy[4]:.1f} | {100 * (predicted.value - errors[4].value):+.1f} |"
        )
        assert line in guide


def test_too_few_points_are_refused() -> None:
    assert not has_enough_points([])
    assert not has_enough_points([1, 1, 1, 1, 1])
    assert not has_enough_points([1, 2, 3, 3.9])
    assert has_enough_points([1, 2, 3, 4])
    with pytest.raises(UserError, match=r"needs 4 points of different x, .* \(got 1, 2, 3\)"):
        fit_power_law([1, 2, 3], exact([0.3, 0.2, 0.1]))
