"""Plots are SVG that stands alone and shows the numbers it was given."""

import re
from collections.abc import Sequence
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib
import matplotlib.pyplot
import pytest

from pocketclip.report.plot import COLOURS, line_plot

SVG = "{http://www.w3.org/2000/svg}"
LOSS = [(0.0, 4.0), (1.0, 2.0), (2.0, 1.0), (4.0, 0.5)]


def plot(*curves: Sequence[tuple[float, float]], percent: bool = False) -> str:
    named = {f"curve {number}": points for number, points in enumerate(curves)}
    return line_plot(named, x_label="epoch", y_label="loss", percent=percent)


def words(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def line(svg: str, colour: str = COLOURS[0]) -> list[tuple[float, float]]:
    """Corners of the longest line in this colour, in the picture's own units."""
    paths = [
        path.get("d", "")
        for path in ElementTree.fromstring(svg).iter(f"{SVG}path")
        if f"stroke: {colour}" in path.get("style", "") and "fill: none" in path.get("style", "")
    ]
    corners = [re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", path) for path in paths]
    return [(float(x), float(y)) for x, y in max(corners, key=len)]


def test_a_line_goes_through_its_points() -> None:
    drawn = line(plot(LOSS))
    assert len(drawn) == len(LOSS)
    (x0, y0), (x1, y1) = drawn[0], drawn[-1]
    for (x, y), (epoch, loss) in zip(drawn, LOSS, strict=True):
        assert x == pytest.approx(x0 + (x1 - x0) * epoch / 4, abs=1e-3)
        assert y == pytest.approx(y0 + (y1 - y0) * (4.0 - loss) / 3.5, abs=1e-3)
    assert x1 > x0
    assert y1 > y0  # downwards: the loss falls


def test_axes_are_named_and_one_curve_needs_no_legend() -> None:
    found = words(plot(LOSS))
    assert {"epoch", "loss"} <= set(found)
    assert "curve 0" not in found
    assert "4.0" in found


def test_two_curves_have_a_legend_and_a_colour_each() -> None:
    svg = plot(LOSS, [(x, x) for x in range(5)])
    assert {"curve 0", "curve 1"} <= set(words(svg))
    assert len(line(svg, COLOURS[0])) == 4
    assert len(line(svg, COLOURS[1])) == 5


@pytest.mark.parametrize(
    "count",
    [5, 15, 16],
)
def test_every_curve_is_drawn(count: int) -> None:
    found = words(plot(*([(0, number), (1, number)] for number in range(count))))
    assert [name for name in found if name.startswith("curve")] == [f"curve {number}" for number in range(count)]


def test_names_stand_at_the_ends_of_their_lines_and_never_on_each_other() -> None:
    svg = line_plot({"up": [(0, 0.0), (1, 1.0)], "down": [(0, 1.0), (1, 0.0)], "low": [(0, 0.9), (1, 0.01)]},
                    x_label="epoch", y_label="loss")  # fmt: skip
    places = {}
    for element in ElementTree.fromstring(svg).iter(f"{SVG}text"):
        name = "".join(element.itertext())
        if name in ("up", "down", "low"):
            places[name] = [float(number) for number in re.findall(r"-?[\d.]+", element.get("transform", ""))[-2:]]
    right = max(x for colour in COLOURS[:3] for x, _ in line(svg, colour))
    assert all(x > right for x, _ in places.values())
    heights = sorted(y for _, y in places.values())
    assert all(below - above >= 9 for above, below in pairwise(heights)), "letters are nine points high"


def test_epochs_are_whole_numbers_where_there_is_a_whole_one() -> None:
    numbers = [word for word in words(plot([(0.0, 3.0), (2.6, 1.0)])) if word[0].isdigit()]
    assert {"0", "1", "2"} <= set(numbers)
    assert not {"0.5", "0.0"} & set(numbers[:3])
    assert "0.20" in words(plot([(0.0, 4.0), (0.4, 9.0)]))


def test_a_level_is_a_line_with_a_name() -> None:
    plain = {"x_label": "epoch", "y_label": "%", "percent": True}
    without = line_plot({"recall": [(0, 0.1), (4, 0.5)]}, **plain)  # type: ignore[arg-type]
    with_level = line_plot({"recall": [(0, 0.1), (4, 0.5)]}, level=("by chance", 0.01), **plain)  # type: ignore[arg-type]
    assert "by chance" in words(with_level)
    assert "recall" in words(with_level)
    assert with_level.count("stroke-dasharray") > without.count("stroke-dasharray")


def test_a_plot_is_one_picture_with_a_name() -> None:
    svg = line_plot({'a "b" <c>': [(0, 0.125), (1, 0.5)]}, title="Recall", x_label="epoch", y_label="%", percent=True)
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'Recall: a "b" <c> from 12.5 to 50'
    assert root[0].tag == f"{SVG}title"
    assert root[0].text == root.get("aria-label")


def test_fractions_are_shown_in_percent() -> None:
    fractions, hundreds = [(0, 0.125), (1, 0.5)], [(0, 12.5), (1, 50)]
    assert plot(fractions, percent=True) == plot(hundreds)


def test_only_short_curves_have_markers() -> None:
    few, many = ([(float(x), 0.0) for x in range(count)] for count in (24, 25))
    assert plot(few).count("<use") >= 24 > plot(many).count("<use")


def test_the_same_curves_give_the_same_text() -> None:
    assert plot(LOSS) == plot(LOSS)


def test_names_are_escaped_and_texts_stay_texts() -> None:
    svg = line_plot({"<script>alert(1)</script>": LOSS, "a & b": LOSS}, x_label="x < 1", y_label="ü")
    assert "<script" not in svg
    assert {"<script>alert(1)</script>", "a & b", "x < 1", "ü"} <= set(words(svg))


def test_nothing_is_fetched() -> None:
    svg = plot(LOSS, LOSS)
    assert svg.startswith("<svg")
    links = re.findall(r'(?:href|src)="([^"]*)"', svg)
    assert links
    assert all(link.startswith("#") for link in links)
    assert set(re.findall(r"https?://[^\"]*", svg)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_settings_and_figures_of_the_caller_stay() -> None:
    before, figures = dict(matplotlib.rcParams), matplotlib.pyplot.get_fignums()
    before.pop("backend")
    plot(LOSS)
    after = dict(matplotlib.rcParams)
    after.pop("backend")
    assert after == before
    assert matplotlib.pyplot.get_fignums() == figures


def test_the_callers_backend_stays() -> None:
    matplotlib.use("agg")
    plot(LOSS)
    assert matplotlib.get_backend() == "agg"
