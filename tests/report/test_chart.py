"""Charts: points that tell what they are, ticks and legends with room, the same bytes each time."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from pages import ATTACK
from pocketclip.records import Interval
from pocketclip.report.chart import Chart, Line, Mark, draw, legend_rows, y_range


def interval(value: float, half: float = 2.0) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def chart(x: list[float], y: list[float], **changes: object) -> Chart:
    marks = [Mark(place, interval(value), number % 2, f"point {number}\n{ATTACK}")
             for number, (place, value) in enumerate(zip(x, y, strict=True))]  # fmt: skip
    return replace(Chart("compute", f"Error {ATTACK}", "MACs", "error", ["one", "two"], marks), **changes)


def labels(svg: str) -> list[str]:
    return [text for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg) if text]


def test_points_tell_what_they_are_and_nothing_runs() -> None:
    drawn = draw(chart([1, 10, 100], [60, 50, 40]))
    assert drawn.inline.count('class="mark"') == 3
    assert drawn.inline.count("<title>point ") == 3
    assert "<script" not in drawn.inline
    assert 'aria-label="Error &lt;script&gt;' in drawn.inline
    ET.fromstring(drawn.svg)
    ET.fromstring(re.sub(r"xlink:href", "href", drawn.inline))
    assert drawn.png.startswith(b"\x89PNG")


def test_the_same_chart_is_the_same_file() -> None:
    one, other = (draw(chart([1, 10, 100], [60, 50, 40])) for _ in range(2))
    assert (one.svg, one.png) == (other.svg, other.png)


@pytest.mark.parametrize(
    ("x", "ticks"),
    [
        ([1e9, 2e10], ["1G", "2G", "5G", "10G", "20G"]),
        ([1e9, 1e12], ["1G", "10G", "100G", "1T"]),
        ([2.0, 6.0], ["2", "3", "4", "5", "6"]),
    ],
    ids=["a decade", "decades", "about the same"],
)
def test_ticks_go_by_factors_where_amounts_do(x: list[float], ticks: list[str]) -> None:
    shown = labels(draw(chart(x, [60, 40])).svg)
    assert [tick for tick in shown if tick in ticks] == ticks


def test_a_chart_of_tiny_errors_goes_by_factors_upwards_too() -> None:
    drawn = draw(chart([1, 10, 100], [50, 10, 3]))
    assert {"1", "2", "5", "10", "20", "50"} <= set(labels(drawn.svg))


def test_names_of_ticks_that_would_touch_are_left_out() -> None:
    ticks = [(float(number), f"a level {number}") for number in range(1, 25)]
    drawn = draw(chart([1, 24], [60, 40], ticks=ticks))
    shown = [text for text in labels(drawn.svg) if text.startswith("a level")]
    assert 2 <= len(shown) <= 5
    assert shown[0] == "a level 1"


def test_legends_break_where_their_line_is_full() -> None:
    assert legend_rows(["a", "b", "c"]) == [[0, 1, 2]]
    assert legend_rows(["a very long name of a level", "another long name of one", "c"]) == [[0], [1, 2]]
    assert labels(draw(chart([1, 2], [3, 4], series=["x" * 60, "b"])).svg)[-2:] == [f"{'x' * 41}…", "b"]


def test_a_front_is_numbered_where_there_is_room() -> None:
    crowded = [1, 1.01, 1.02, 100, 1000]
    drawn = draw(chart(crowded, [60, 59.9, 59.8, 40, 30], numbered=[0, 1, 2, 3, 4], series=[]))
    assert [text for text in labels(drawn.svg)[-3:] if text in "12345"] == ["1", "4", "5"]


def test_laws_have_bands_and_fronts_steps() -> None:
    places = [1.0, 10.0, 100.0]
    values = [interval(60), interval(50), interval(40)]
    lines = [Line(places, values, 0, "law"), Line(places, values, None, "front"), Line(places, values, 1, "mean")]
    plain, full = draw(chart(places, [60, 50, 40])), draw(chart(places, [60, 50, 40], lines=lines))
    assert full.svg.count("FillBetweenPolyCollection") > plain.svg.count("FillBetweenPolyCollection")
    assert "stroke-dasharray" in full.svg


def test_a_range_holds_all_intervals() -> None:
    low, high = y_range([interval(60), interval(20, 15)])
    assert 0 < low < 5
    assert 62 < high < 70
    assert y_range([Interval(value=0, low=0, high=0)])[0] == 0


def test_the_last_tick_is_named_before_the_one_that_it_would_touch() -> None:
    ticks = [(12e3, "12000"), (96e3, "96000"), (384e3, "384000"), (768e3, "768000")]
    shown = labels(draw(chart([12e3, 768e3], [60, 40], ticks=ticks)).svg)
    assert [name for _, name in ticks if name in shown] == ["12000", "96000", "768000"]
