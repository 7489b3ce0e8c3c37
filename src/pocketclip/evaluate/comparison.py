"""Which of two models is better: a paired test on the same items, of one run each or of several."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from pocketclip.config import Config
from pocketclip.errors import UserError
from pocketclip.evaluate.intervals import join, student_t
from pocketclip.evaluate.items import Items
from pocketclip.evaluate.matching import in_order_of
from pocketclip.evaluate.statistics import Floats, Units, measured, ratios, resampled_ratios
from pocketclip.records import Interval, Provenance

FEWEST = 6
"""Units that must differ before a test can tell anything: of five that all favour one model, chance does as much in
1 of 16 cases (a sign test, two-sided), more than 5 %."""


class Side(Config):
    """A model of which one or several runs were measured."""

    name: str
    runs: list[str]
    seeds: list[int | None]
    """Of training, a run each; None where nobody knows."""


class Difference(Config):
    """One score of both models, and how far A is ahead."""

    a: float
    b: float
    difference: Interval
    """A - B."""
    wins: int
    """Units in which A is better."""
    losses: int
    ties: int

    @property
    def is_sure(self) -> bool:
        """Whether the interval excludes 0, and enough units differ for it to mean anything."""
        return (self.difference.low > 0 or self.difference.high < 0) and self.wins + self.losses >= FEWEST


class Comparison(Config):
    """Two models on the same items."""

    kind: Literal["comparison"] = "comparison"
    task: str
    dataset: str
    split: str
    a: Side
    b: Side
    unit: str
    num_units: int
    metrics: dict[str, Difference]
    first_metric: str
    """Which the verdict is about."""
    verdict: str
    rests_on: str
    notes: list[str] = []
    provenance: Provenance = Field(default_factory=Provenance)

    def to_json(self) -> dict[str, Any]:
        """One JSON object."""
        return self.model_dump(mode="json")


def compare(ours: Sequence[Items], theirs: Sequence[Items], *, names: tuple[str, str] = ("A", "B")) -> Comparison:
    """Compare the runs of a model A with those of a model B, of one task on the same items.

    Units, such as images, are resampled with both models' answers together. Several runs are averaged; their spread
    over seeds is joined with that: pair by pair where both have runs of the same seeds, else as of independent ones.

    Raises:
        UserError: they were asked different things, or have no score in common.
    """
    first = ours[0]
    all_units = [first.units, *(in_order_of(first, other) for other in [*ours[1:], *theirs])]
    scores = [name for name in first.units[0] if all(name in units[0] for units in all_units)]
    if not scores:
        raise UserError(f"{names[0]} and {names[1]} have no score of {first.record.task} in common.")
    sides = [_mean_units(part, scores) for part in (all_units[: len(ours)], all_units[len(ours) :])]
    means = measured(first.task.means, scores)
    values = [ratios(units, means) for units in sides]
    draws = _paired_draws(sides[0], sides[1], means)
    by_run = [ratios(_only(units, scores), means) for units in all_units]
    of_runs = by_run[: len(ours)], by_run[len(ours) :]
    pairs = _pairs(ours, theirs)
    metrics = {}
    for name in values[0]:
        of_a, of_b = ([run[name] for run in runs] for runs in of_runs)
        interval = _difference(values[0][name] - values[1][name], draws[name], of_a, of_b, pairs)
        wins, losses, ties = _counts(name, sides[0], sides[1], means)
        metrics[name] = Difference(
            a=values[0][name], b=values[1][name], difference=interval, wins=wins, losses=losses, ties=ties
        )
    shown = next((name for name in first.task.openings if name in metrics), next(iter(metrics)))
    return Comparison(
        task=first.record.task,
        dataset=first.record.dataset,
        split=first.record.split,
        a=_side(names[0], ours),
        b=_side(names[1], theirs),
        unit=first.task.unit,
        num_units=first.num_units,
        metrics=metrics,
        first_metric=shown,
        verdict=verdict(metrics[shown], names, shown),
        rests_on=_rests_on(first, (len(ours), len(theirs)), pairs is not None),
        notes=_notes([*ours, *theirs]),
    )


def verdict(found: Difference, names: tuple[str, str], metric: str) -> str:
    """Whether one model is better, in a sentence."""
    what, gap = metric.replace("_", " "), found.difference
    if found.wins == found.losses == 0 and gap.low == gap.high == 0:
        return f"No difference in {what}: {names[0]} and {names[1]} did alike on every item."
    if found.is_sure:
        winner, loser = names if gap.value > 0 else names[::-1]
        low, high = sorted((abs(gap.low), abs(gap.high)))
        points = f"{100 * abs(gap.value):.1f} points [{100 * low:.1f}, {100 * high:.1f}]"
        return f"{winner} is better than {loser} by {points} in {what}; the interval excludes 0."
    points = f"{100 * gap.value:+z.1f} points [{100 * gap.low:+z.1f}, {100 * gap.high:+z.1f}]"
    if gap.low <= 0 <= gap.high:
        return f"Not known which is better in {what}: {names[0]} - {names[1]} is {points}, and the interval holds 0."
    differing = found.wins + found.losses
    return (
        f"Not known which is better in {what}: {names[0]} - {names[1]} is {points}, but only {differing} items differ, "
        f"and below {FEWEST} chance may do that."
    )


def _only(units: Sequence[Units], scores: Sequence[str]) -> list[Units]:
    return [{name: group[name] for name in scores} for group in units]


def _mean_units(runs: Sequence[Sequence[Units]], scores: Sequence[str]) -> list[Units]:
    """The mean over runs of each unit's successes; trials are the same in all."""
    return [
        {name: (np.mean([run[name][0] for run in group], axis=0), group[0][name][1]) for name in scores}
        for group in zip(*runs, strict=True)
    ]


def _paired_draws(
    ours: Sequence[Units], theirs: Sequence[Units], means: Mapping[str, Sequence[str]]
) -> dict[str, Floats]:
    """(R,) of each difference, A's and B's units drawn together."""
    both: list[Units] = [
        {f"{side} {name}": shares for side, group in (("a", own), ("b", other)) for name, shares in group.items()}
        for own, other in zip(ours, theirs, strict=True)
    ]
    of_both = {f"{side} {name}": [f"{side} {part}" for part in parts] for name, parts in means.items() for side in "ab"}
    draws = resampled_ratios(both, of_both)
    return {name: draws[f"a {name}"] - draws[f"b {name}"] for name in [*ours[0], *means]}


def _counts(
    name: str, ours: Sequence[Units], theirs: Sequence[Units], means: Mapping[str, Sequence[str]]
) -> tuple[int, int, int]:
    """Units in which A is better, worse, and neither; for a mean of scores the sum of their shares counts."""

    def shares(side: Sequence[Units]) -> Floats:
        parts = means.get(name, [name])
        groups = [np.sum([group[p][0] / np.maximum(group[p][1], 1e-12) for p in parts], axis=0) for group in side]
        return np.concatenate(groups)

    gaps = shares(ours) - shares(theirs)
    wins, losses = int((gaps > 1e-9).sum()), int((gaps < -1e-9).sum())
    return wins, losses, len(gaps) - wins - losses


def _pairs(ours: Sequence[Items], theirs: Sequence[Items]) -> list[int] | None:
    """For each run of A the one of B that was trained with the same seed; None where they have not the same seeds."""
    seeds, others = ([run.record.seed for run in runs] for runs in (ours, theirs))
    if None in seeds or None in others or len(set(seeds)) < len(seeds) or sorted(seeds) != sorted(others):  # type: ignore[type-var]
        return None
    return [others.index(seed) for seed in seeds]


def _difference(
    value: float, draws: Floats, of_a: Sequence[float], of_b: Sequence[float], pairs: list[int] | None
) -> Interval:
    """A difference with both of its doubts: which units were asked, and which seeds were drawn."""
    if pairs is not None:
        return join(value, draws, [own - of_b[pair] for own, pair in zip(of_a, pairs, strict=True)])
    interval, half = join(value, draws, []), _welch_half_width(of_a, of_b)
    low, high = value - math.hypot(value - interval.low, half), value + math.hypot(interval.high - value, half)
    return Interval(value=value, low=low, high=high)


def _welch_half_width(of_a: Sequence[float], of_b: Sequence[float]) -> float:
    """Half of Welch's 95 % interval of the difference of two means over seeds; a single run adds no spread."""
    parts = [(float(np.var(own, ddof=1)) / len(own), len(own)) for own in (of_a, of_b) if len(own) > 1]
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return 0.0
    degrees = total**2 / sum(variance**2 / (count - 1) for variance, count in parts)
    return student_t(max(1, int(degrees))) * math.sqrt(total)


def _side(name: str, runs: Sequence[Items]) -> Side:
    return Side(name=name, runs=[run.name for run in runs], seeds=[run.record.seed for run in runs])


def _rests_on(first: Items, num_runs: tuple[int, int], paired_seeds: bool) -> str:
    """What the intervals are made of, in words."""
    text = f"95 % of resampling the same {first.num_units:,} {first.task.unit} for both models, answers taken together"
    if max(num_runs) == 1:
        return f"{text}; of one run each, so it does not hold what another seed of training would give"
    how = "of the same seeds" if paired_seeds else "independent"
    text += f"; joined with Student's t over {num_runs[0]} and {num_runs[1]} runs, {how}"
    return text if min(num_runs) > 1 else f"{text}; of the model with one run the spread over seeds is not known"


def _notes(runs: Sequence[Items]) -> list[str]:
    """What a reader has to know: the same data by other names, other words, several versions."""
    notes = []
    protocols = {getattr(protocol, "hash", None) for run in runs if (protocol := getattr(run.record, "protocol", None))}
    if len(protocols) > 1:
        notes.append("class names or templates differ: the difference is of models and words together")
    names = sorted({run.record.dataset for run in runs})
    if len(names) > 1:
        notes.append(f"the same items by several names: {', '.join(names)}")
    versions = sorted({run.record.provenance.code_version for run in runs})
    if len(versions) > 1:
        notes.append(f"measured by several versions of the code: {', '.join(versions)}")
    if any(run.ids is None for run in runs):
        notes.append("items are matched by their places: a file is of an earlier version, and has no ids")
    return notes
