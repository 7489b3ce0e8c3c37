"""Figures as people read them."""

import pytest

from pocketclip.report.amounts import day, duration, of_hundred, short_count, short_dollars


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.0021, "2.1 ms"),
        (0.021, "21 ms"),
        (0.29, "290 ms"),
        (0.9996, "1.0 s"),
        (2.5, "2.5 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (83.6, "1 min 24 s"),
        (158.6, "2 min 39 s"),
        (3599.6, "1 h"),
        (7199.9, "2 h"),
        (11_520, "3 h 12 min"),
        (86_399, "1 d"),
        (200_000, "2 d 8 h"),
    ],
)
def test_times_have_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("date", "text"),
    [
        ("2026-11-26T01:48:58+00:00", "26 Nov 2026"),
        ("2026-01-01", "1 Jan 2026"),
        ("yesterday", "yesterday"),
        ("", ""),
    ],
)
def test_days_are_named_and_what_is_none_stays(date: str, text: str) -> None:
    assert day(date) == text


@pytest.mark.parametrize(
    ("share", "text"), [(1 / 393, "0.25"), (0.001, "0.1"), (1 / 16, "6.25"), (0.5, "50"), (1.0, "100")]
)
def test_small_chances_keep_their_figures(share: float, text: str) -> None:
    assert of_hundred(share) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (30_000, "30.0 k"),
        (3_264_868, "3.26 M"),
        (999_999, "1.00 M"),
        (2.1e9, "2.10 B"),
    ],
)
def test_counts_are_short(count: int, text: str) -> None:
    assert short_count(count) == text


@pytest.mark.parametrize(
    ("dollars", "text"),
    [(0.0, "$0.00"), (0.00001, "< $0.0001"), (0.00079, "$0.00079"), (15.5, "$15.50"), (77414, "$77,414")],
)
def test_dollars_are_short(dollars: float, text: str) -> None:
    assert short_dollars(dollars) == text
