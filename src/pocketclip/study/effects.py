"""What the levels of an axis bring at equal other levels: paired differences over cells, and what they tell."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist, fmean

import numpy as np

from pocketclip.evaluate.intervals import student_quantile
from pocketclip.records import Interval
from pocketclip.study.scored import Axis, Cell, Cells

MOST_LEVELS = 24
"""Of an axis whose levels are compared pair by pair."""
_Levels = tuple[tuple[str, str], ...]
_Blocks = Mapping[_Levels, Mapping[str, Cell]]


@dataclass(frozen=True)
class Effect:
    """How much better the score of one level is than that of another, over all cells that differ in nothing else."""

    better: str
    worse: str
    num_cells: int
    gain: Interval
    """Of the score, wide enough for all comparisons of the page to hold together; endless where nothing tells it."""

    @property
    def is_sure(self) -> bool:
        """Whether the first is better for all that is known."""
        return self.gain.low > 0

    def flipped(self) -> "Effect":
        """The same, told the other way round."""
        gain = Interval(value=-self.gain.value, low=-self.gain.high, high=-self.gain.low)
        return Effect(self.worse, self.better, self.num_cells, gain)


@dataclass(frozen=True)
class AxisEffects:
    """An axis, its levels from the best to the worst as far as means go, and how the best compares with each."""

    axis: Axis
    ranking: Sequence[str]
    against_best: Sequence[Effect]
    """The best against each of the others, in the order of the ranking; a level that shares no cell is left out."""

    @property
    def winner(self) -> str | None:
        """The level that is surely better than every other one."""
        whole = len(self.against_best) == len(self.axis.levels) - 1
        return self.ranking[0] if whole and all(effect.is_sure for effect in self.against_best) else None

    @property
    def rivals(self) -> list[Effect]:
        """Those that may be as good as the best."""
        return [effect for effect in self.against_best if not effect.is_sure]

    @property
    def surely_worse(self) -> list[Effect]:
        """Those that are not."""
        return [effect for effect in self.against_best if effect.is_sure]


def compare_levels(cells: Cells) -> list[AxisEffects]:
    """Every axis of a grid whose levels meet at equal other levels.

    A pair's difference is taken cell by cell over the seeds that both have; its interval is Student's over cells, which
    holds what seeds do and that levels bring more in some cells than in others, joined with what another draw of
    pictures would change in the mean over cells. It covers so much that all pairs of the study hold together with 95 %
    (Bonferroni).
    """
    found = _compare(cells, [(axis, cells) for axis in _comparable(cells)])
    return [own for own in found if own is not None]


def compare_within(cells: Cells, scale: Axis) -> dict[str, list[AxisEffects | None]]:
    """The other axes at each level of a scale, in the order of `axes_within`; all these pairs hold together."""
    axes = axes_within(cells, scale)
    parts = [[cell for cell in cells if cell.row.levels.get(scale.name) == level] for level in scale.levels]
    found = _compare(cells, [(axis, part) for part in parts for axis in axes])
    return {level: found[number * len(axes) : (number + 1) * len(axes)] for number, level in enumerate(scale.levels)}


def axes_within(cells: Cells, scale: Axis) -> list[Axis]:
    """Those whose levels are compared at each level of a scale."""
    return [axis for axis in _comparable(cells) if axis.name != scale.name]


def num_comparisons(found: Sequence[AxisEffects]) -> int:
    """Pairs at most that the intervals are widened for."""
    return sum(len(own.axis.levels) * (len(own.axis.levels) - 1) // 2 for own in found)


def _comparable(cells: Cells) -> list[Axis]:
    return [axis for axis in cells.axes if len(axis.levels) <= MOST_LEVELS]


def _compare(cells: Cells, groups: Sequence[tuple[Axis, Sequence[Cell]]]) -> list[AxisEffects | None]:
    pairs = [_pairs(part, axis) for axis, part in groups]
    coverage = 1 - 0.05 / max(1, sum(map(len, pairs)))
    found: list[AxisEffects | None] = []
    for (axis, _), own in zip(groups, pairs, strict=True):
        effects = [_effect(cells, names, met, coverage) for names, met in own.items()]
        found.append(_ranked(axis, effects) if effects else None)
    return found


def _pairs(cells: Sequence[Cell], axis: Axis) -> dict[tuple[str, str], list[tuple[Cell, Cell]]]:
    """Cells that differ in this axis alone, by the two levels they have there."""
    found = defaultdict(list)
    for block in blocks(cells, axis).values():
        levels = [level for level in axis.levels if level in block]
        for one, other in combinations(levels, 2):
            if block[one].scores.keys() & block[other].scores.keys():
                found[one, other].append((block[one], block[other]))
    return found


def blocks(cells: Sequence[Cell], axis: Axis) -> _Blocks:
    """Cells by their other levels, then by that of this axis."""
    found: dict[_Levels, dict[str, Cell]] = defaultdict(dict)
    for cell in cells:
        others = tuple(own for own in cell.row.levels.items() if own[0] != axis.name)
        if (level := cell.row.levels.get(axis.name)) is not None:
            found[others][level] = cell
    return found


def _effect(cells: Cells, names: tuple[str, str], pairs: Sequence[tuple[Cell, Cell]], coverage: float) -> Effect:
    seeds = [[one.scores[seed] - other.scores[seed] for seed in sorted(one.scores.keys() & other.scores.keys())]
             for one, other in pairs]  # fmt: skip
    means = [fmean(own) for own in seeds]
    value = fmean(means)
    if len(means) > 1:
        half = student_quantile(len(means) - 1, coverage) * float(np.std(means, ddof=1)) / math.sqrt(len(means))
    elif cells.is_pooled:
        half = math.sqrt(2) * cells.seed_half(len(seeds[0]), coverage)
    elif len(seeds[0]) > 1:
        spread = float(np.std(seeds[0], ddof=1)) / math.sqrt(len(seeds[0]))
        half = student_quantile(len(seeds[0]) - 1, coverage) * spread
    else:
        half = math.inf  # one run of each, and nothing says what another would give
    half = math.hypot(half, NormalDist().inv_cdf((1 + coverage) / 2) * cells.unit_sigma(pairs))
    return Effect(*names, len(means), Interval(value=value, low=value - half, high=value + half))


def _ranked(axis: Axis, effects: Sequence[Effect]) -> AxisEffects:
    both = {(own.better, own.worse): own for effect in effects for own in (effect, effect.flipped())}
    lead = {
        level: float(np.mean([own.gain.value for (first, _), own in both.items() if first == level] or [-math.inf]))
        for level in axis.levels
    }
    ranking = sorted(axis.levels, key=lambda level: -lead[level])
    best = ranking[0]
    return AxisEffects(axis, ranking, [both[best, level] for level in ranking[1:] if (best, level) in both])
