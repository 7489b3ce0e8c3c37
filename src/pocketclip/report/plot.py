"""Plots as SVG text, for pages that stand alone."""

import html
import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from pocketclip.errors import require

Points = Sequence[tuple[float, float]]
COLOURS = ("#1d4ed8", "#b45309", "#047857", "#be185d", "#6d28d9")
"""Dark enough for letters on white, too: a line's name stands at its end in its own colour."""
_GREY = "#566072"
_LINE_HEIGHT = 0.075
"""Of the plot's height: names of lines that end nearer to each other are moved apart."""


def line_plot(
    curves: Mapping[str, Points],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    percent: bool = False,
    level: tuple[str, float] | None = None,
    width: float = 3.9,
) -> str:
    """Curves over a common axis of whole numbers, points by name; a curve of few points gets markers.

    The labels have their unit; `percent` shows fractions of y in percent; `level` is the name and height of a dashed
    line, such as what guessing gives; `width` is in inches. `title` is for those who do not see the plot: they are also
    told where each curve begins and ends.
    """
    settings = {"svg.fonttype": "none", "svg.hashsalt": "pocketclip", "font.size": 9}
    factor, output = 100 if percent else 1, io.StringIO()
    with require("matplotlib", extra="study").rc_context(settings):
        figure = require("matplotlib.figure", extra="study").Figure(figsize=(width, width * 0.64), layout="constrained")
        axes = figure.subplots()
        ends = []
        for colour, (name, points) in zip(cycle(COLOURS), curves.items(), strict=False):
            x, y = [point[0] for point in points], [factor * point[1] for point in points]
            axes.plot(x, y, label=name, color=colour, linewidth=1.6, marker="o" if len(x) < 25 else None, markersize=3)
            ends.append((y[-1], name, colour))
        if level is not None:
            name, height = level
            axes.axhline(factor * height, color=_GREY, linewidth=1.2, linestyle=(0, (4, 3)))
            ends.append((factor * height, name, _GREY))
        if len(ends) > 1:
            _name_at_ends(axes, ends)
        dress(axes, x_label, y_label, whole=max(point[0] for points in curves.values() for point in points) >= 1)
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(output, format="svg", transparent=True, metadata=metadata)
    text = output.getvalue()
    return _with_words(text[text.index("<svg") :], title or y_label, curves, factor)


def dress(axes: Any, x_label: str, y_label: str, *, whole: bool) -> None:
    """Axes with names, few lines, and whole numbers along x where there is more than a part of one."""
    if whole:
        axes.xaxis.set_major_locator(require("matplotlib.ticker", extra="study").MaxNLocator(integer=True, nbins=6))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _name_at_ends(axes: Any, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write each line's name right of its end, in its colour, with room between one name and the next."""
    low, high = axes.get_ylim()
    lowest = -1.0
    for height, name, colour in sorted(ends):
        lowest = max((height - low) / (high - low), lowest + _LINE_HEIGHT)
        place = {"xycoords": "axes fraction", "xytext": (5, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(name, (1, lowest), color=colour, annotation_clip=False, **place)


def _with_words(svg: str, title: str, curves: Mapping[str, Points], factor: float) -> str:
    """One picture with a name, where a screen reader would else spell out every tick."""
    courses = [f"{name} from {factor * own[0][1]:.3g} to {factor * own[-1][1]:.3g}" for name, own in curves.items()]
    words = html.escape(f"{title}: {'; '.join(courses)}")
    tag, rest = svg.split(">", 1)
    return f'{tag} role="img" aria-label="{words}"><title>{words}</title>{rest}'
