"""What a grid found, in sentences and tables made from its numbers; where intervals overlap they say so."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from pocketclip.study.bars import Bars, effect_bars
from pocketclip.study.best import BestRecipe, best_recipes, budget_axis
from pocketclip.study.effects import (
    MOST_LEVELS,
    AxisEffects,
    Effect,
    axes_within,
    compare_levels,
    compare_within,
    num_comparisons,
)
from pocketclip.study.laws import MOST_LAWS, Law, fit_laws
from pocketclip.study.record import StudyRecord
from pocketclip.study.scored import Cells

MOST_NAMES = 4
"""Of cells and levels in one sentence."""
MOST_BUDGETS = 12
"""Whose best recipe a page shows."""
_MOST_REASONS = 20


@dataclass(frozen=True)
class Findings:
    """All that is made of a record's numbers."""

    cells: Cells
    effects: Sequence[AxisEffects]
    laws: Sequence[Law]
    bests: Sequence[BestRecipe]

    @property
    def noun(self) -> str:
        """What the study is made of."""
        return "cells" if self.cells.record.axes else "rows"

    @cached_property
    def summary(self) -> list[str]:
        """The study in plain words; empty for one without axes."""
        return summary(self.cells, self.effects, self.laws)

    @cached_property
    def left_out(self) -> list["LeftOut"]:
        """Cells without a score, by their reason."""
        return left_out(self.cells.record)

    @cached_property
    def bars(self) -> list[Bars]:
        """The levels of each axis against its best."""
        return effect_bars(self.effects)

    @cached_property
    def winners(self) -> tuple[list[str], list[list[str]]] | None:
        """The best levels at each budget."""
        return winners_table(self.cells) if self.effects else None

    @cached_property
    def best_rows(self) -> list[tuple[BestRecipe, str]]:
        """The best recipes with how sure they are; of many budgets some, from the smallest to the largest."""
        every = -(-len(self.bests) // MOST_BUDGETS)
        return [(best, best_sentence(best, self.noun)) for best in self.bests[:: max(1, every)]]

    @cached_property
    def law_rows(self) -> tuple[list[str], list[list[str]]]:
        """The laws as a table."""
        return law_table(self.laws)

    @cached_property
    def picked_laws(self) -> str:
        """Which laws are of points that were picked for their scores; empty for none."""
        return names([own.name for own in self.laws if own.is_picked], MOST_LAWS)

    @cached_property
    def notes(self) -> list[str]:
        """What the intervals of pictures and comparisons are."""
        own = [comparison_note(self.effects, self.cells) if self.effects else "", pooling_note(self.cells)]
        return [note for note in own if note]


def find_out(record: StudyRecord) -> Findings:
    """Work out what a study found; recipes of budgets where its cells differ in what they took, or on its axes."""
    cells = Cells(record)
    bests = best_recipes(cells)
    return Findings(cells, compare_levels(cells), fit_laws(cells), bests if cells.axes or len(bests) > 1 else [])


@dataclass(frozen=True)
class LeftOut:
    """Why cells have no score, or not that of all seeds."""

    reason: str
    names: Sequence[str]
    """The first of them."""
    count: int


def axis_sentence(found: AxisEffects, cells: Cells) -> str:
    """Which level of an axis wins at equal other levels, or that it cannot be told."""
    axis, best = found.axis.name, found.ranking[0]
    if found.winner is not None:
        closest = min(found.against_best, key=lambda effect: effect.gain.low)
        return f"{axis}: ‘{best}’ wins. At equal other levels its {cells.label} is {_lead(closest)} ‘{closest.worse}’."
    unmet = [level for level in found.ranking[1:] if level not in {effect.worse for effect in found.against_best}]
    sentence = f"{axis}: it can't be told which is best."
    if found.rivals:
        sentence += f" ‘{best}’ is {_lead(found.rivals[0])} ‘{found.rivals[0].worse}’"
        others = [effect.worse for effect in found.rivals[1:]]
        sentence += f", and as good may be {names(others)}." if others else "."
    if found.surely_worse:
        sentence += f" Worse than ‘{best}’ for sure: {names([effect.worse for effect in found.surely_worse])}."
    if unmet:
        sentence += f" Nothing compares ‘{best}’ with {names(unmet)} at equal other levels."
    return sentence


def _lead(effect: Effect) -> str:
    """`1.1 points [0.1, 2.0] above that of`, with how many comparisons are behind it."""
    value, low, high = (100 * number for number in (effect.gain.value, effect.gain.low, effect.gain.high))
    count = f"{effect.num_cells} pairs of cells" if effect.num_cells > 1 else "one pair of cells"
    if math.isinf(low):
        return f"{value:z.1f} points, of which one run each tells no interval ({count}), above"
    return f"{value:z.1f} points [{low:z.1f}, {high:z.1f}] ({count}) above"


def names(own: Sequence[str], most: int = MOST_NAMES) -> str:
    """‘a’, ‘b’ and 3 more."""
    shown = ", ".join(f"‘{name}’" for name in own[:most])
    return shown if len(own) <= most else f"{shown} and {len(own) - most:,} more"


def law_sentence(laws: Sequence[Law]) -> str:
    """How error falls with compute, of the law that reaches the least error."""
    if not laws:
        return ""
    best, b = laws[0], laws[0].law.b
    whose = "Along the front of all cells" if best.name == "the front" else f"For {best.name}"
    low, high = (100 * (1 - 2**-own) for own in (b.low, b.high))
    rest = f", down to {100 * best.law.c.value:.1f} percent that more compute does not take" if best.law.c else ""
    return (
        f"{whose} error falls as compute to the power of −{b.value:.2f} [−{b.high:.2f}, −{b.low:.2f}]{rest}: twice the "
        f"compute takes off {low:.0f} to {high:.0f} percent of the error."
        + (" That is optimistic: its points are the best of several cells, some by chance." if best.is_picked else "")
    )


def law_table(laws: Sequence[Law]) -> tuple[list[str], list[list[str]]]:
    """Each law with its numbers, how far points lie off it, and what it expects of twice the compute."""
    columns = ["series", "exponent b", "remaining c", "points", "off the law", "error at twice the compute", "law"]
    rows = []
    for own in laws:
        law = own.law
        ahead = law.predict(2 * own.ends[1])
        spread = f"{100 * law.spread:.1f} %"
        rows.append([
            own.name, f"{law.b.value:.3f} [{law.b.low:.3f}, {law.b.high:.3f}]", law.c.percent() if law.c else "",
            str(len(own.cells)), spread, ahead.percent(), law.formula().replace("x", "compute"),
        ])  # fmt: skip
    return columns, rows


def best_sentence(best: BestRecipe, noun: str = "cells") -> str:
    """How sure it is that a budget's best cell is the best."""
    others = best.num_cells - 1
    if not others:
        return f"The only one of the {noun} with a score that keeps it."
    if not best.rivals:
        return f"Better than {'the only other one' if others == 1 else f'all {others:,} others'} for sure."
    rivals = names([cell.name for cell in best.rivals])
    if others == 1:
        return f"It can't be told from the only other one, {rivals}."
    return f"It can't be told from {len(best.rivals):,} of {others:,} others, any of which may be the best: {rivals}."


def summary(cells: Cells, effects: Sequence[AxisEffects], laws: Sequence[Law]) -> list[str]:
    """The study in plain words; empty for one without axes."""
    sentences = [axis_sentence(found, cells) for found in effects]
    if laws and effects:
        sentences.append(law_sentence(laws))
    elif effects and cells.record.axes:
        count = len({cell.compute for cell in cells if cell.compute})
        sentences.append(
            f"How error falls with compute can't be told: a law needs points of at least four amounts of compute, the "
            f"largest four times the smallest, that differ in scale alone, and the study has {count} of any kind."
        )
    return sentences


def comparison_note(effects: Sequence[AxisEffects], cells: Cells) -> str:
    """What the intervals of the comparisons are."""
    count = num_comparisons(effects)
    return (
        "Differences are paired: of cells that differ in nothing but this axis, seed by seed, averaged over all such "
        "pairs. Their intervals hold the spread over pairs and which pictures are in the split, and are widened so "
        f"that all {count} comparisons hold together with 95 % (Bonferroni); where one holds 0, it can't be told. "
        "They are of these cells and levels: elsewhere another may win."
    )


def pooling_note(cells: Cells) -> str:
    """What the intervals of the figures are, where they are not those of the table."""
    if not cells.is_pooled:
        return ""
    return (
        f"The figures' intervals take the spread of seeds to be alike in all cells ({100 * cells.seed_spread:.2f} "
        f"points, from {cells.degrees} degrees of freedom), as a few seeds tell little of one cell; the table's don't."
    )


def winners_table(cells: Cells) -> tuple[list[str], list[list[str]]] | None:
    """Which level is best at each budget, or amount of data; None where the study has no such axis."""
    scale = budget_axis(cells)
    if scale is None or len(scale.levels) > MOST_LEVELS or not (axes := axes_within(cells, scale)):
        return None
    rows = [
        [level, *("" if own is None else _verdict(own) for own in found)]
        for level, found in compare_within(cells, scale).items()
    ]
    return [scale.name, *(axis.name for axis in axes)], rows


def _verdict(found: AxisEffects) -> str:
    if found.winner is not None:
        return found.winner
    rivals = [found.ranking[0], *(effect.worse for effect in found.rivals)]
    return f"can't be told: {', '.join(rivals[:MOST_NAMES])}{', …' if len(rivals) > MOST_NAMES else ''}"


def left_out(record: StudyRecord) -> list[LeftOut]:
    """Cells that were dropped or stopped, and runs that failed, by their reason."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for row in record.rows:
        if row.dropped:
            reasons[row.dropped].append(row.name)
    for run, problem in record.failed.items():
        reasons[f"failed: {problem}"].append(run)
    ordered = sorted(reasons.items(), key=lambda own: -len(own[1]))
    found = [LeftOut(reason, own[:MOST_NAMES], len(own)) for reason, own in ordered[:_MOST_REASONS]]
    if rest := ordered[_MOST_REASONS:]:
        count = sum(len(own) for _, own in rest)
        found.append(LeftOut(f"{len(rest)} other reasons, which cells.csv names", rest[0][1][:1], count))
    return found
