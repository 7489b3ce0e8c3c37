"""Plots as SVG text, for pages that stand alone."""

import io
from collections.abc import Mapping, Sequence
from itertools import cycle

from pocketclip.errors import require

Points = Sequence[tuple[float, float]]
COLOURS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed")


def line_plot(
    curves: Mapping[str, Points], *, x_label: str, y_label: str, percent: bool = False, width: float = 5.6
) -> str:
    """Curves over a common axis, points by name; a curve of few points gets markers.

    The labels have their unit; `percent` shows fractions of y in percent; `width` is in inches.
    """
    settings = {"svg.fonttype": "none", "svg.hashsalt": "pocketclip", "font.size": 9}
    output = io.StringIO()
    with require("matplotlib", extra="study").rc_context(settings):
        figure = require("matplotlib.figure", extra="study").Figure(figsize=(width, width * 0.58), layout="constrained")
        axes = figure.subplots()
        for colour, (name, points) in zip(cycle(COLOURS), curves.items(), strict=False):
            x = [point[0] for point in points]
            y = [100 * point[1] if percent else point[1] for point in points]
            axes.plot(x, y, label=name, color=colour, linewidth=1.6, marker="o" if len(x) < 25 else None, markersize=3)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if len(curves) > 1:
            axes.legend(frameon=False)
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(output, format="svg", transparent=True, metadata=metadata)
    text = output.getvalue()
    return text[text.index("<svg") :]
