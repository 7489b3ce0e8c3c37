"""The front is what brute force finds; the picture names every point once, inside itself."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from pages import ATTACK
from pocketclip.records import Interval
from pocketclip.report.pareto import LONGEST_NAME, Point, pareto_front, pareto_plot


def point(name: str, cost: float, score: float) -> Point:
    return Point(name, cost, Interval(value=score, low=score - 0.02, high=score + 0.02))


def is_beaten(point: Point, other: Point) -> bool:
    no_worse = other.cost <= point.cost and other.score.value >= point.score.value
    return no_worse and (other.cost < point.cost or other.score.value > point.score.value)


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_no_other_beats(seed: int) -> None:
    random = np.random.default_rng(seed)
    points = [point(f"m{n}", float(random.integers(1, 6)), float(random.integers(1, 6)) / 10) for n in range(12)]
    front = pareto_front(points)
    unbeaten = {(own.cost, own.score.value) for own in points if not any(is_beaten(own, other) for other in points)}
    assert {(own.cost, own.score.value) for own in front} == unbeaten
    assert len(front) == len(unbeaten)
    assert [own.cost for own in front] == sorted(own.cost for own in front)


@pytest.mark.parametrize("names", [["a", "b", "c"], [ATTACK, "x" * 60, "二匹の犬"]])
def test_every_point_is_named_in_the_picture_and_in_words(names: list[str]) -> None:
    points = [point(name, 10.0**place, 0.3 + place / 10) for place, name in enumerate(names)]
    svg = pareto_plot(points, x_label="parameters", y_label="top-1", title="a & b")
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img"
    for name in names:
        assert name in root.attrib["aria-label"]
    shown = [text for text in root.itertext() if text.strip()]
    ends = [name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}" for name in names]
    assert all(end in shown for end in ends)
    assert "<script" not in svg


def test_names_of_points_that_lie_together_stand_apart() -> None:
    points = [point(f"model {number}", 10 + number / 10, 0.5) for number in range(5)]
    svg = pareto_plot(points, x_label="x", y_label="y", title="t")
    found = re.findall(r'<text[^>]*transform="translate\(([\d.]+) ([\d.]+)\)[^>]*>model', svg)
    places = np.array(found or re.findall(r'<text[^>]*\bx="([\d.]+)"[^>]*\by="([\d.]+)"[^>]*>model', svg), float)
    assert len(places) == 5
    gaps = np.abs(places[:, None] - places[None]) + 1e3 * np.eye(5)[..., None]
    assert ((gaps[..., 1] > 9) | (gaps[..., 0] > 40)).all()


def test_costs_and_scores_may_be_equal() -> None:
    assert "<svg" in pareto_plot([point("a", 1, 0.5), point("b", 1, 0.5)], x_label="x", y_label="y", title="t")
    assert "<svg" in pareto_plot([point("a", 0, 0), point("b", 5, 0)], x_label="x", y_label="y", title="t")
