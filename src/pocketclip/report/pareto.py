"""Accuracy against cost as a picture: a named point a model, and the front of those that none beats in both."""

import html
import io
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from pocketclip.errors import require
from pocketclip.records import Interval
from pocketclip.report.plot import COLOURS, dress

LONGEST_NAME = 28
_GREY = "#566072"
_WIDE = 8
"""Largest cost over smallest from which the axis goes by factors."""
_DECADES = 200
"""Largest cost over smallest up to which 2 and 5 are named beside 1 and 10."""
_TALL, _LETTER = 0.05, 0.0165
"""Height of a name and width of a letter, of those of the picture."""
Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""


class Point(NamedTuple):
    """A model."""

    name: str
    cost: float
    score: Interval


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points that no other one beats in one of cost and score without being worse in the other, by their cost."""
    front: list[Point] = []
    for point in sorted(points, key=lambda own: (own.cost, -own.score.value)):
        if not front or point.score.value > front[-1].score.value:
            front.append(point)
    return front


def pareto_plot(points: Sequence[Point], *, x_label: str, y_label: str, title: str, width: float = 4.6) -> str:
    """SVG: cost to the right, score in percent upwards with its interval, the front as a line of steps."""
    front = pareto_front(points)
    settings, output = {"svg.fonttype": "none", "svg.hashsalt": "pocketclip", "font.size": 9}, io.StringIO()
    with require("matplotlib", extra="study").rc_context(settings):
        figure = require("matplotlib.figure", extra="study").Figure(figsize=(width, 0.8 * width), layout="constrained")
        axes = figure.subplots()
        for point in points:
            colour = COLOURS[0] if point in front else _GREY
            value, low, high = (100 * own for own in (point.score.value, point.score.low, point.score.high))
            axes.plot([point.cost] * 2, [low, high], color=colour, linewidth=1.2, alpha=0.5)
            axes.plot([point.cost], [value], color=colour, marker="o", markersize=5, linestyle="none")
        costs, scores = [own.cost for own in front], [100 * own.score.value for own in front]
        axes.step([*costs, max(own.cost for own in points)], [*scores, scores[-1]], where="post", color=COLOURS[0],
                  linewidth=1.4, linestyle=(0, (4, 3)), zorder=0)  # fmt: skip
        if min(own.cost for own in points) * _WIDE < max(own.cost for own in points):
            axes.set_xscale("log")
        axes.margins(x=0.12, y=0.12)
        dress(axes, x_label, y_label, whole=False)
        _shorten_ticks(axes)
        _name(axes, points, front)
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # the reader's browser has the letters that our font lacks
            figure.savefig(output, format="svg", transparent=True, metadata=metadata)
    text = output.getvalue()
    return _with_words(text[text.index("<svg") :], title, points, front)


def _shorten_ticks(axes: Any) -> None:
    """`26M` for a cost of 26,000,000, in few ticks whose names have room."""
    ticker = require("matplotlib.ticker", extra="study")
    axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    if axes.get_xscale() == "linear":
        axes.xaxis.set_major_locator(ticker.MaxNLocator(nbins=5))
    else:
        low, high = axes.get_xlim()
        subs = (1, 2, 5) if high < _DECADES * low else (1,)
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=subs))


def _name(axes: Any, points: Sequence[Point], front: Sequence[Point]) -> None:
    """Each point's name where it touches nothing: near it, else further away with a thin line to its point."""
    axes.figure.draw_without_rendering()
    to_axes = axes.transData + axes.transAxes.inverted()

    def place(cost: float, score: float) -> tuple[float, float]:
        x, y = to_axes.transform((cost, 100 * score)).tolist()
        return x, y

    places = {point: place(point.cost, point.score.value) for point in points}
    taken = [(x - 0.012, y - 0.02, x + 0.012, y + 0.02) for x, y in places.values()]
    for point, (x, _) in places.items():
        taken.append((x, place(point.cost, point.score.low)[1], x, place(point.cost, point.score.high)[1]))
    steps = [places[point] for point in front]
    for (x, y), (next_x, next_y) in pairwise([*steps, (max(x for x, _ in places.values()), steps[-1][1])]):
        taken += [(x, y, next_x, y), (next_x, y, next_x, next_y)]
    for point, (x, y) in places.items():
        name = _short(point.name)
        boxes = _boxes(x, y, _LETTER * len(name), above=point in front)
        number, box = next(((n, own) for n, own in enumerate(boxes) if not any(_touch(own, other) for other in taken)),
                           (0, boxes[0]))  # fmt: skip
        taken.append(box)
        colour = COLOURS[0] if point in front else _GREY
        axes.text(*box[:2], name, transform=axes.transAxes, fontsize=8, color=colour, va="bottom", in_layout=False)
        if number > 3:
            end = (min(max(x, box[0]), box[2]), box[1] if box[1] > y else box[3])
            axes.plot([x, end[0]], [y, end[1]], transform=axes.transAxes, color=colour, linewidth=0.6, clip_on=False)


def _boxes(x: float, y: float, wide: float, *, above: bool) -> list[Box]:
    """Where the name of a point may stand, the best place first, within the picture."""
    boxes: list[Box] = []
    for step in range(12):
        heights = [y + 0.008 + _TALL * step, y - 0.008 - _TALL * (step + 1)]
        for bottom in heights if above else heights[::-1]:
            lefts = x + 0.015, x - 0.015 - wide, x - wide / 2
            boxes += [(left, bottom, left + wide, bottom + _TALL) for left in lefts]
    inside = [box for box in boxes if box[0] > -0.02 and box[2] < 1.02 and box[1] > 0 and box[3] < 1.05]
    return inside or boxes


def _short(name: str) -> str:
    """The end of a long name, which tells models apart."""
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"


def _touch(box: Box, other: Box) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _with_words(svg: str, title: str, points: Sequence[Point], front: Sequence[Point]) -> str:
    """One picture with a name for those who do not see it."""
    told = "; ".join(f"{own.name} {100 * own.score.value:.1f} at {own.cost:.4g}" for own in points)
    words = html.escape(f"{title}: {told}. Not beaten in both: {', '.join(own.name for own in front)}.")
    tag, rest = svg.split(">", 1)
    return f'{tag} role="img" aria-label="{words}"><title>{words}</title>{rest}'
