"""A chart of many points with their intervals: error over a cost or an amount, as SVG for a page and as files."""

import functools
import html
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pocketclip.errors import require
from pocketclip.records import Interval
from pocketclip.report.plot import COLOURS

SERIES_COLOURS = (*COLOURS, "#0e7490", "#92400e", "#4d7c0f", "#9f1239", "#334155")
_MARKERS = "os^DvPX*<>"
_WIDTH, _HEIGHT, _LEGEND_LINE = 4.7, 3.5, 0.2
"""Of a chart in inches, and of a line of its legend, so that charts side by side have their axes at one height."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.68, 0.14, 0.16, 0.6
"""Inches around the axes."""
_SIGN, _GAP, _LEGEND_SIZE = 0.15, 0.13, 10
"""Inches of a colour's sign in the legend and after a name, and the size of its letters."""
_LONG = 8
"""Letters of a tick's name from which one at an end is moved inwards."""
_WIDE, _DECADES = 4, 60
"""Largest over smallest, from which an axis goes by factors, and up to which 2 and 5 are named beside 1 and 10."""


@dataclass(frozen=True)
class Mark:
    """A point."""

    x: float
    y: Interval
    """In percent."""
    series: int
    about: str
    """What is shown of it on its own."""
    is_faint: bool = False
    """Whether it stands behind those that a reader is to see first."""


@dataclass(frozen=True)
class Line:
    """Points joined by a line, such as means, a front or a law with its band."""

    x: Sequence[float]
    y: Sequence[Interval]
    series: int | None
    kind: str
    """`mean`, `front` or `law`."""


@dataclass(frozen=True)
class Chart:
    """What a chart shows."""

    slug: str
    title: str
    x_label: str
    y_label: str
    series: Sequence[str]
    """Names of the colours; one or none stands for nothing."""
    marks: Sequence[Mark]
    lines: Sequence[Line] = ()
    ticks: Sequence[tuple[float, str]] = ()
    """Places along x with a name each, in the place of numbers."""
    y_range: tuple[float, float] | None = None
    """In percent; that of its own points where it is left out."""
    note: str = ""
    numbered: Sequence[int] = field(default=())
    """Marks that bear their number, counted from 1 in this order."""
    legend_lines: int = 0
    """For which there is room at least."""


@dataclass(frozen=True)
class Drawn:
    """A chart as files hold it, and as a page does."""

    chart: Chart
    svg: str
    png: bytes
    inline: str
    """SVG whose points tell what they are."""


def draw(chart: Chart) -> Drawn:
    """Draw a chart."""
    settings = {"svg.fonttype": "none", "svg.hashsalt": f"pocketclip {chart.slug}", "font.size": 11}
    with require("matplotlib", extra="study").rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the reader's browser has the letters that our font lacks
        figure = require("matplotlib.figure", extra="study").Figure(dpi=160)
        rows = legend_rows(chart.series) if len(chart.series) > 1 else []
        legend = max(chart.legend_lines, len(rows))
        top = _TOP + _LEGEND_LINE * legend + (0.06 if legend else 0)
        height = _HEIGHT + top - _TOP
        figure.set_size_inches(_WIDTH, height)
        axes = figure.add_axes(
            (_LEFT / _WIDTH, _BOTTOM / height, 1 - (_LEFT + _RIGHT) / _WIDTH, (height - top - _BOTTOM) / height)
        )
        _set_up(axes, chart)
        for line in chart.lines:
            _draw_line(axes, line)
        _draw_intervals(axes, chart.marks)
        for number, mark in enumerate(chart.marks):
            _draw_mark(axes, mark, f"{chart.slug}-{number}")
        _draw_numbers(axes, chart)
        _draw_legend(figure, rows, chart.series, height)
        text, picture = io.StringIO(), io.BytesIO()
        figure.savefig(
            text, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
        figure.savefig(picture, format="png", metadata={"Software": None})
    svg = text.getvalue()
    return Drawn(chart, svg, picture.getvalue(), _telling(svg[svg.index("<svg") :], chart))


def _colour(series: int | None) -> str:
    return "#1c2230" if series is None else SERIES_COLOURS[series % len(SERIES_COLOURS)]


def _set_up(axes: Any, chart: Chart) -> None:
    ticker = require("matplotlib.ticker", extra="study")
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.grid(alpha=0.22, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#8b94a5")
    axes.tick_params(color="#8b94a5", labelsize=10)
    places = [place for place, _ in chart.ticks] or [mark.x for mark in chart.marks]
    low, high = min(places), max(places)
    if low > 0 and (high >= _WIDE * low):
        axes.set_xscale("log")
        margin = (high / low) ** 0.08
        axes.set_xlim(low / margin, high * margin)
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if high < _DECADES * low else (1,), numticks=20))
    else:
        margin = 0.08 * (high - low) or abs(high) or 1.0
        axes.set_xlim(low - margin, high + margin)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    if chart.ticks:
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        names = _with_room(axes, chart.ticks)
        axes.set_xticks([place for place, _ in chart.ticks], names)
        for label, side in ((axes.get_xticklabels()[0], "left"), (axes.get_xticklabels()[-1], "right")):
            if len(label.get_text()) > _LONG:  # it would leave the picture
                label.set_ha(side)
    low, high = chart.y_range or y_range([mark.y for mark in chart.marks])
    if low > 0 and high > _WIDE * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5), numticks=20))
        axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    else:
        axes.yaxis.set_major_locator(ticker.MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.set_ylim(low, high)
    if low < 0 < high:
        axes.axhline(0, color="#8b94a5", linewidth=1)


def _with_room(axes: Any, ticks: Sequence[tuple[float, str]]) -> list[str]:
    """The names of ticks, but for those that would touch the one before, or the last."""
    to_axes, last, names = axes.transData + axes.transAxes.inverted(), -1.0, []
    for place, name in ticks:
        middle, wide = float(to_axes.transform((place, 0))[0]), len(name) * 0.024
        if len(name) > _LONG and place in (ticks[0][0], ticks[-1][0]):
            left = middle if place == ticks[0][0] else middle - wide
        else:
            left = middle - wide / 2
        names.append(name if left > last else "")
        last = left + wide + 0.02 if names[-1] else last
    if not names[-1] and (other := max(place for place, name in enumerate(names) if name)):  # ends say the most
        names[other], names[-1] = "", ticks[-1][1]
    return names


def y_range(errors: Sequence[Interval]) -> tuple[float, float]:
    """Percent from which to which all intervals are seen, with some room."""
    low, high = min(error.low for error in errors), max(error.high for error in errors)
    margin = 0.05 * (high - low) or 1.0
    return (max(low - margin, low / 1.3) if low > 0 else 0.0), min(100.0 + margin, high + margin)


def _draw_intervals(axes: Any, marks: Sequence[Mark]) -> None:
    """All upright lines of one look at once, which is much faster than one by one."""
    looks: dict[tuple[int, bool], list[list[tuple[float, float]]]] = {}
    for mark in marks:
        if mark.y.low < mark.y.high:
            looks.setdefault((mark.series, mark.is_faint), []).append([(mark.x, mark.y.low), (mark.x, mark.y.high)])
    for (series, faint), segments in looks.items():
        lines = require("matplotlib.collections", extra="study").LineCollection(
            segments, color=_colour(series), linewidth=0.9 if faint else 1.2, alpha=0.16 if faint else 0.6, zorder=2
        )
        axes.add_collection(lines, autolim=False)


def _draw_mark(axes: Any, mark: Mark, name: str) -> None:
    faint, lines = mark.is_faint, require("matplotlib.lines", extra="study")
    axes.add_artist(lines.Line2D(
        [mark.x], [mark.y.value], color=_colour(mark.series), marker=_MARKERS[mark.series % len(_MARKERS)],
        linestyle="none", markersize=4.2 if faint else 6, alpha=0.42 if faint else 1, markeredgewidth=0.6,
        markeredgecolor="white", zorder=3 if faint else 5, gid=name,
    ))  # fmt: skip


def _draw_numbers(axes: Any, chart: Chart) -> None:
    """Numbers below points, but for those that would touch the one before."""
    to_axes, last = axes.transData + axes.transAxes.inverted(), (-1.0, -1.0)
    for number, place in enumerate(chart.numbered, start=1):
        mark = chart.marks[place]
        x, y = to_axes.transform((mark.x, mark.y.value)).tolist()
        if x - last[0] > 0.055 or abs(y - last[1]) > 0.08:
            last = (x, y)
            axes.annotate(
                str(number), (mark.x, mark.y.value), xytext=(-4, -5), textcoords="offset points", ha="right", va="top",
                fontsize=9, fontweight="bold", color=_colour(mark.series), zorder=6,
            )  # fmt: skip


def _draw_line(axes: Any, line: Line) -> None:
    values, colour = [own.value for own in line.y], _colour(line.series)
    if line.kind == "front":
        axes.step(line.x, values, where="post", color=colour, linewidth=1.3, linestyle=(0, (4, 3)), zorder=4)
        return
    axes.plot(line.x, values, color=colour, linewidth=1.7, zorder=4)
    if line.kind == "law":
        axes.fill_between(line.x, [own.low for own in line.y], [own.high for own in line.y], color=colour, alpha=0.13,
                          linewidth=0, zorder=1)  # fmt: skip


def legend_rows(series: Sequence[str]) -> list[list[int]]:
    """Series by the line of the legend that they stand in."""
    rows: list[list[int]] = []
    room = 0.0
    for number, name in enumerate(series):
        need = _width(name)
        if need - _GAP > room:
            rows.append([])
            room = _WIDTH - _LEFT - _RIGHT
        rows[-1].append(number)
        room -= need
    return rows


@functools.cache
def _width(name: str) -> float:
    """Inches of a name with its sign."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        path = require("matplotlib.textpath", extra="study").TextPath((0, 0), _short(name), size=_LEGEND_SIZE)
        return _SIGN + float(path.get_extents().width) / 72 + _GAP


def _short(name: str) -> str:
    return name if len(name) <= 42 else f"{name[:41]}…"


def _draw_legend(figure: Any, rows: Sequence[Sequence[int]], series: Sequence[str], height: float) -> None:
    lines = require("matplotlib.lines", extra="study")
    for place, row in enumerate(rows):
        x, y = _LEFT, height - 0.15 - _LEGEND_LINE * place
        for number in row:
            colour = _colour(number)
            figure.add_artist(lines.Line2D([(x + 0.06) / _WIDTH], [y / height], color=colour, markersize=6,
                                           marker=_MARKERS[number % len(_MARKERS)], linestyle="none"))  # fmt: skip
            figure.text((x + _SIGN) / _WIDTH, y / height, _short(series[number]), color=colour, fontsize=_LEGEND_SIZE,
                        va="center_baseline")  # fmt: skip
            x += _width(series[number])


def _telling(svg: str, chart: Chart) -> str:
    """The picture with a name, and points that tell what they are to a mouse; a script tells it to all others."""
    words = html.escape(f"{chart.title}: {len(chart.marks)} points", quote=True)
    tag, rest = svg.split(">", 1)
    about = [html.escape(mark.about) for mark in chart.marks]
    rest = re.sub(
        rf'<g id="{chart.slug}-(\d+)">', lambda own: f'<g class="mark"><title>{about[int(own[1])]}</title>', rest
    )
    rest = re.sub(r"\s*<!--.*?-->", "", rest, flags=re.DOTALL)
    return f'{tag} role="img" aria-label="{words}"><title>{words}</title>{rest}'
