"""Dollars of rented time."""

import pytest

from pocketclip.cost.price import price_dollars


@pytest.mark.parametrize(
    ("seconds", "per_hour", "dollars"), [(3600, 2.0, 2.0), (90, 4.0, 0.1), (0, 9.0, 0.0), (600, 0.0, 0.0)]
)
def test_time_is_charged_to_the_second(seconds: float, per_hour: float, dollars: float) -> None:
    assert price_dollars(seconds, per_hour) == pytest.approx(dollars)
