"""A study's rows as points: error with its interval, what each took, and where it stands on the grid's axes."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pocketclip.evaluate.intervals import seed_half_width, student_quantile
from pocketclip.evaluate.statistics import Floats
from pocketclip.records import Interval
from pocketclip.study.record import DRAW_UNIT, RowResult, StudyRecord
from pocketclip.study.table import main_of, metrics_of, own_time, score_columns

BUDGET = "budget"
"""The axis of a list of budgets."""
_AMOUNT = re.compile(r"(?:top\s*)?([\d.,]*\d)\s*([kKMGBT]?)\s*(%|[a-z]*)")
_UNITS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}
_FEWEST_DEGREES = 3
"""From which the spread of seeds is taken from all cells."""


@dataclass(frozen=True)
class Cell:
    """A row that has a score."""

    row: RowResult
    error: Interval
    scores: Mapping[int, float]
    """By seed; empty in records that keep only means."""

    @property
    def name(self) -> str:
        """The row's."""
        return self.row.name

    @cached_property
    def draws(self) -> Floats | None:
        """(NUM_DRAWS,) how far the score is from its mean in draws of pictures that all cells share; None without."""
        return np.array(self.row.draws.split(), np.float64) * DRAW_UNIT if self.row.draws else None

    @property
    def compute(self) -> float | None:
        """MACs of its training."""
        macs = self.row.macs_per_sample
        return macs * self.row.samples_seen if macs and self.row.samples_seen else None

    @property
    def parameters(self) -> float | None:
        """Of the whole model."""
        return self.row.parameters.get("parameters_total")

    @property
    def latency(self) -> float | None:
        """Milliseconds of one picture and one sentence."""
        return self.row.latency_ms

    @property
    def minutes(self) -> float | None:
        """Of a run, without what it put into caches."""
        return own_time(self.row)

    @property
    def samples(self) -> float | None:
        """Samples that a run sees."""
        return self.row.samples_seen or None


@dataclass(frozen=True)
class Axis:
    """An axis of a grid, or the rows of a study without one."""

    name: str
    levels: Sequence[str]

    @cached_property
    def amounts(self) -> list[float] | None:
        """Its levels as numbers where all of them are different ones, such as `25 %`, `6k` or `top 40%`."""
        found = [_AMOUNT.fullmatch(level.strip()) for level in self.levels]
        if not all(found) or len({match[3] for match in found if match}) > 1:
            return None
        amounts = [float(match[1].replace(",", "")) * _UNITS[match[2]] for match in found if match]
        return amounts if len(set(amounts)) == len(amounts) > 1 and min(amounts) > 0 else None

    @property
    def unit(self) -> str:
        """What all of its amounts are of, such as `samples` or `%`."""
        match = _AMOUNT.fullmatch(self.levels[0].strip()) if self.amounts is not None else None
        return match[3].strip() if match else ""

    @property
    def is_scale(self) -> bool:
        """Whether its levels are more or less of one thing."""
        return self.name == BUDGET or self.amounts is not None


class Cells(list[Cell]):
    """The scored rows of a study, and what all of them share."""

    def __init__(self, record: StudyRecord) -> None:
        self.record, self.metric = record, main_metric(record)
        metric = self.metric
        rows = [row for row in record.rows if metric in row.metrics] if metric else []
        rows = [row for row in rows if math.isfinite(row.metrics[str(metric)].mean.value)]
        scores = [{run.seed: run.metrics[metric] for run in row.runs if metric in run.metrics} for row in rows]
        several = [list(own.values()) for own in scores if len(own) > 1]
        self.degrees = sum(len(own) - 1 for own in several)
        squares = sum((len(own) - 1) * float(np.var(own, ddof=1)) for own in several)
        self.seed_spread = math.sqrt(squares / self.degrees) if self.degrees else 0.0
        """Standard deviation of one seed, of all cells together."""
        super().__init__(Cell(row, self._error(row, own), own) for row, own in zip(rows, scores, strict=True))

    @property
    def is_pooled(self) -> bool:
        """Whether the spread of seeds is that of all cells together, since a few seeds tell little of one cell."""
        return self.degrees >= _FEWEST_DEGREES

    @property
    def label(self) -> str:
        """The metric, as tables call it."""
        labels = dict(zip(metrics_of(self.record), score_columns(self.record)[1:], strict=True))
        return labels.get(self.metric or "", "")

    @cached_property
    def axes(self) -> list[Axis]:
        """Those of the grid on which scored cells differ, with the levels that have any."""
        seen = {name: {cell.row.levels.get(name) for cell in self} for name in self.record.axes}
        axes = [Axis(name, [own for own in levels if own in seen[name]]) for name, levels in self.record.axes.items()]
        return [axis for axis in axes if len(axis.levels) > 1]

    def unit_sigma(self, pairs: Sequence[tuple[Cell, Cell]]) -> float:
        """Standard deviation of the mean difference of pairs of cells that is due to which pictures are in the split.

        All cells are resampled alike, so what a draw of pictures does to both of a pair, or to one pair upwards and to
        another downwards, falls out. Without draws, as in records of earlier versions, it is the usual one of a pair.
        """
        met = [(one.draws, other.draws) for one, other in pairs]
        differences = [one - other for one, other in met if one is not None and other is not None]
        if len(differences) < len(pairs):
            return self._usual_doubt / 1.96
        return float(np.std(np.mean(differences, axis=0), ddof=1))

    @cached_property
    def _usual_doubt(self) -> float:
        """Half of the 95 % interval of a row's difference to the first, less what seeds do to it: the median row's."""
        halves = []
        for cell in self:
            measure = cell.row.metrics[str(self.metric)]
            if measure.difference is not None:
                first = self[0].scores
                values = [score - first[seed] for seed, score in cell.scores.items() if seed in first]
                halves.append(_without_seeds(measure.difference, values))
        return float(np.median(halves)) if halves else 0.0

    def unit_half(self, cell: Cell) -> float:
        """The same of a cell's own score."""
        return _without_seeds(cell.row.metrics[str(self.metric)].mean, list(cell.scores.values()))

    def mean_error(self, cells: Sequence[Cell]) -> Interval:
        """Of several cells: all are measured on the same pictures, so that only the seeds' doubt shrinks."""
        value = float(np.mean([cell.error.value for cell in cells]))
        count = sum(len(cell.scores) for cell in cells)
        if not self.is_pooled or not count:
            half = float(np.mean([(cell.error.high - cell.error.low) / 2 for cell in cells]))
        else:
            draws = [cell.draws for cell in cells if cell.draws is not None]
            units = float(np.mean([self.unit_half(cell) for cell in cells]))
            if len(draws) == len(cells):
                units = 1.96 * float(np.std(np.mean(draws, axis=0), ddof=1))
            half = math.hypot(units, self.seed_half(count))
        return Interval(value=value, low=max(0.0, value - half), high=min(1.0, value + half))

    def seed_half(self, count: int, coverage: float = 0.95) -> float:
        """Half of the interval of a mean over so many seeds, or cells with seeds."""
        return student_quantile(self.degrees, coverage) * self.seed_spread / math.sqrt(count)

    def _error(self, row: RowResult, scores: Mapping[int, float]) -> Interval:
        mean = row.metrics[str(self.metric)].mean
        low, high = mean.low, mean.high
        if self.is_pooled and scores:
            own, pooled = seed_half_width(list(scores.values())), self.seed_half(len(scores))
            low = mean.value - math.hypot(math.sqrt(max(0.0, (mean.value - low) ** 2 - own**2)), pooled)
            high = mean.value + math.hypot(math.sqrt(max(0.0, (high - mean.value) ** 2 - own**2)), pooled)
        return Interval(value=1 - mean.value, low=max(0.0, 1 - high), high=min(1.0, 1 - low))


def _without_seeds(interval: Interval, values: Sequence[float]) -> float:
    """What is left of an interval's half without Student's part over seeds."""
    return math.sqrt(max(0.0, ((interval.high - interval.low) / 2) ** 2 - seed_half_width(values) ** 2))


def main_metric(record: StudyRecord) -> str | None:
    """The score whose error the figures show; see `main_of`."""
    return main_of(metrics_of(record))
