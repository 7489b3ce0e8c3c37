"""Histograms of what a filter went by, with its cuts drawn, as one picture."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pocketclip.curate.histogram import Histogram
from pocketclip.errors import UserError, require
from pocketclip.files import write_atomically
from pocketclip.report.plot import COLOURS, dress

ENDINGS = (".svg", ".png")
_DROPPED = "#c3cad5"


def check(file: Path, *rules: Mapping[str, Any]) -> None:
    """A UserError where a file's ending is none of `ENDINGS`, or none of the rules that are drawn compares a number."""
    if file.suffix not in ENDINGS:
        raise UserError(f"{file}: a picture of histograms ends in {' or '.join(ENDINGS)}.")
    if not any(isinstance(value, int | float) and value is not True for one in rules for value in one.values()):
        raise UserError("--histogram has no effect: no rule here compares a number.")
    require("matplotlib", extra="study")


def write_histograms(file: Path, histograms: Sequence[Histogram]) -> None:
    """Draw one below the other."""
    settings = {"svg.fonttype": "none", "svg.hashsalt": "pocketclip", "font.size": 9}
    output = io.BytesIO()
    with require("matplotlib", extra="study").rc_context(settings):
        size = (5.6, 0.6 + 2.2 * len(histograms))
        figure = require("matplotlib.figure", extra="study").Figure(figsize=size, layout="constrained")
        all_axes = figure.subplots(len(histograms), squeeze=False).flat
        for axes, histogram in zip(all_axes, histograms, strict=True):
            _draw(axes, histogram)
        handles, labels = all_axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False)
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type")) if file.suffix == ".svg" else {}
        figure.savefig(output, format=file.suffix[1:], dpi=160, facecolor="white", metadata=metadata)
    write_atomically(file, output.getvalue(), elsewhere="--histogram")


def _draw(axes: Any, histogram: Histogram) -> None:
    left, widths = histogram.edges[:-1], np.diff(histogram.edges)
    axes.bar(left, histogram.read, widths, align="edge", color=_DROPPED, label="all")
    axes.bar(left, histogram.kept, widths, align="edge", color=COLOURS[0], label="kept by all rules")
    top = 1.25 * max(1, int(histogram.read.max()))
    low, high = histogram.edges[0], histogram.edges[-1]
    for cut, edge in histogram.cuts:
        axes.axvline(edge, color=COLOURS[1], linewidth=1.4, linestyle=(0, (4, 2)))
        on_right = edge < (low + high) / 2
        axes.annotate(
            f"{cut:.4g}",
            (edge, 0.93 * top),
            xytext=(4 if on_right else -4, 0),
            textcoords="offset points",
            ha="left" if on_right else "right",
            va="center",
            color=COLOURS[1],
        )
    dress(axes, histogram.name.replace("_", " "), histogram.things, whole=False)
    axes.yaxis.set_major_formatter(require("matplotlib.ticker", extra="study").StrMethodFormatter("{x:,.0f}"))
    axes.set(xlim=(low, high), ylim=(0, top))
