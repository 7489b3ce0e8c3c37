"""Intervals as bars on a scale that they share: rows by metric, and levels of an axis against its best."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pocketclip.study.effects import AxisEffects
from pocketclip.study.record import StudyRecord
from pocketclip.study.table import metrics_of, row_name, score_columns


@dataclass(frozen=True)
class Bar:
    """A row's interval on a scale that all rows of a metric share; places in percent of its length."""

    name: str
    shown: str
    """The score with its interval; empty where the row has none yet."""
    low: float = 0.0
    value: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class Bars:
    """A metric, a bar a row."""

    label: str
    bars: list[Bar]
    ends: tuple[str, str]
    """Of the scale."""


def score_bars(record: StudyRecord) -> list[Bars]:
    """Every metric, a bar a row on a scale of its own."""
    labels = score_columns(record)[1:]
    return [_bars(record, metric, label) for metric, label in zip(metrics_of(record), labels, strict=True)]


def _bars(record: StudyRecord, metric: str, label: str) -> Bars:
    means = [row.metrics[metric].mean if metric in row.metrics else None for row in record.rows]
    known = [mean for mean in means if mean is not None]
    low, high = min(mean.low for mean in known), max(mean.high for mean in known)
    margin = 0.04 * (high - low) or 0.01
    low, high = low - margin, high + margin
    factor = 1 if "_rank" in metric else 100

    def place(number: float) -> float:
        return round(100 * (number - low) / (high - low), 2)

    bars = []
    for row, mean in zip(record.rows, means, strict=True):
        if mean is None:
            bars.append(Bar(row_name(record, row), ""))
            continue
        sure = f" [{factor * mean.low:.1f}, {factor * mean.high:.1f}]" if mean.low < mean.high else ""
        shown = f"{factor * mean.value:.1f}{sure}"
        bars.append(Bar(row_name(record, row), shown, place(mean.low), place(mean.value), place(mean.high)))
    return Bars(label, bars, (f"{factor * low:.1f}", f"{factor * high:.1f}"))


def effect_bars(effects: Sequence[AxisEffects]) -> list[Bars]:
    """Every axis, a bar a level: how far its score is below that of the axis's best, in points on one scale for all."""
    gains = [effect.gain for found in effects for effect in found.against_best]
    finite = [number for gain in gains for number in (gain.low, gain.value, gain.high) if math.isfinite(number)]
    low, high = -max([0.0, *finite]), -min([0.0, *finite])
    margin = 0.04 * (high - low) or 0.01
    low, high = low - margin, high + margin

    def place(number: float) -> float:
        return round(100 * (min(max(number, low), high) - low) / (high - low), 2)

    measures = []
    for found in effects:
        bars = [Bar(found.ranking[0], "best", place(0), place(0), place(0))]
        for effect in found.against_best:
            gain = effect.flipped().gain
            sure = "" if math.isinf(gain.low) else f" [{100 * gain.low:+z.1f}, {100 * gain.high:+z.1f}]"
            told = "" if effect.is_sure else " · can't be told"
            bars.append(Bar(effect.worse + told, f"{100 * gain.value:+z.1f}{sure}", place(gain.low), place(gain.value),
                            place(gain.high)))  # fmt: skip
        measures.append(Bars(found.axis.name, bars, (f"{100 * low:+z.1f}", f"{100 * high:+z.1f}")))
    return measures
