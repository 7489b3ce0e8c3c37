"""A study's table: each row's means over seeds with intervals, and its differences to the first row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pocketclip.cost.price import price_dollars
from pocketclip.errors import UserError
from pocketclip.evaluate.intervals import join, meaning
from pocketclip.evaluate.statistics import Floats, Units, measured, resampled_ratios
from pocketclip.records import Interval, Provenance
from pocketclip.study.cell_recipes import Left, Row
from pocketclip.study.grid import Study
from pocketclip.study.latency import Latencies
from pocketclip.study.record import DRAW_UNIT, NUM_DRAWS, Measure, RowResult, SeedResult, StudyRecord
from pocketclip.study.runs import FinishedRun
from pocketclip.study.table import main_of


@dataclass
class StudyResults:
    """What a study has so far; its rows are in order, and the first is what the others are compared with."""

    study: Study
    samples: Mapping[str, int]
    """What each row's runs see, by its name."""
    dollars_per_hour: float | None
    """Of this machine."""
    num_jobs: int
    """Runs at a time."""
    finished: dict[str, list[FinishedRun]]
    """By the row's name."""
    latencies: Latencies
    failed: dict[str, str] = field(default_factory=dict)
    """What went wrong, by run."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Why no more of a row is trained, by its name."""

    paired: bool = True
    """Whether all runs so far were asked the same questions."""
    known: dict[str, tuple[Any, RowResult]] = field(default_factory=dict)
    """Rows of the table that are made already, by the row's name, and what they depend on."""

    first: "FirstRow | None" = None

    def first_row(self) -> "FirstRow":
        """What the other rows are compared with."""
        if self.first is None:
            self.first = FirstRow(self.finished[self.study.rows[0].name])
        return self.first

    def has(self, row: str, seed: int) -> bool:
        """Whether a run is among the finished."""
        return any(run.seed == seed for run in self.finished[row])

    def add(self, row: str, run: FinishedRun) -> None:
        """Add a finished run, in the order of the seeds."""
        self.finished[row].append(run)
        self.finished[row].sort(key=lambda run: self.study.config.seeds.index(run.seed))


def compare(results: StudyResults) -> StudyRecord:
    """Make the record of what is finished so far.

    Raises:
        UserError: nothing is finished, or a metric was not measured.
    """
    study, config = results.study, results.study.config
    runs = [run for row in study.rows for run in results.finished[row.name]]
    if not runs:
        problems = "; ".join(f"{name}: {problem}" for name, problem in results.failed.items())
        raise UserError(f"{study.name}: no run came to an end. {problems}")
    evaluation, rows = runs[0].evaluations[0], [_known_row(results, row) for row in study.rows]
    if results.paired and not all(run.questions == runs[0].questions != "" for run in runs):
        results.paired = False
        rows = [_known_row(results, row) for row in study.rows]
    return StudyRecord(
        name=study.name,
        changes=list(study.changes),
        task=evaluation.task,
        dataset=evaluation.dataset,
        num_images=evaluation.num_images,
        num_captions=evaluation.num_captions,
        seeds=list(config.seeds),
        intervals=meaning(runs[0].task.unit),
        dollars_per_hour=results.dollars_per_hour,
        num_jobs=results.num_jobs,
        num_runs=sum(len(config.seeds) for row in study.rows if row.name not in results.dropped),
        num_finished=sum(len(results.finished[row.name]) for row in study.rows if row.name not in results.dropped),
        failed=dict(results.failed),
        notes=[*_notes(study, runs, paired=results.paired), *results.latencies.notes()],
        axes=config.levels(),
        rows=[*rows, *map(_left, study.left)],
        provenance=Provenance(),
    )


def _known_row(results: StudyResults, row: Row) -> RowResult:
    """A row of the table, made anew only where a run of it, or of the first row, has ended since."""
    runs, first = results.finished[row.name], results.finished[results.study.rows[0].name]
    seeds, latency_ms = ([run.seed for run in runs], [run.seed for run in first]), results.latencies.of(row)
    depends = seeds, _why_dropped(results, row), results.paired, latency_ms
    if row.name not in results.known or results.known[row.name][0] != depends:
        questions = {run.questions for run in [*runs, *first]}
        paired = results.paired and len(questions) == 1 and "" not in questions
        results.known[row.name] = depends, _row_result(results, row, paired=paired)
        for run in runs if runs is not first else []:
            run.forget()
    return results.known[row.name][1]


def _notes(study: Study, runs: Sequence[FinishedRun], *, paired: bool) -> list[str]:
    notes = []
    machines = sorted({run.record.provenance.hardware for run in runs})
    if len(machines) > 1:
        notes.append(f"runs are of several machines: {'; '.join(machines)}")
    if any(row.recipe.train.keep == "best" or row.recipe.train.early_stopping for row in study.rows):
        notes.append("weights were chosen on the same split that is shown, which flatters every row")
    versions = sorted({run.record.provenance.code_version for run in runs})
    if len(versions) > 1:
        notes.append(f"runs are of several versions of the code: {', '.join(versions)}")
    if not paired:
        notes.append("not all runs ranked the same queries, so intervals are of the seeds only")
    return notes


def _measures(
    metrics: Sequence[str], runs: Sequence[FinishedRun], first: "FirstRow", *, paired: bool
) -> tuple[dict[str, Measure], str]:
    """Each metric of a row, its difference to the first row over the seeds that both have, and `RowResult.draws`."""
    if not runs:
        return {}, ""
    others = {run.seed: run for run in first.runs if runs is not first.runs}
    ours = [run for run in runs if run.seed in others]
    theirs = [others[run.seed] for run in ours]
    shares = _shares(metrics, runs) if paired else {}
    minus = first.shares(metrics, theirs) if paired and theirs else {}
    plus = shares if len(ours) == len(runs) else _shares(metrics, ours) if paired and ours else {}
    measures = {}
    for metric in metrics:
        values = [run.value(metric) for run in runs]
        mean, difference = join(float(np.mean(values)), shares.get(metric), values), None
        if metric in shares:  # a share ends at 0 and 1
            mean = Interval(value=mean.value, low=max(0.0, mean.low), high=min(1.0, mean.high))
        if metric in plus or len(ours) > 1:
            values = [run.value(metric) - other.value(metric) for run, other in zip(ours, theirs, strict=True)]
            # The draws of both are the same, so that their difference is that of a paired resampling
            resamples = plus[metric] - minus[metric] if metric in plus else None
            difference = join(float(np.mean(values)), resamples, values)
        measures[metric] = Measure(mean=mean, difference=difference)
    return measures, _draws(shares.get(main_of(metrics) or ""))


def _draws(shares: Floats | None) -> str:
    """As a string: a record of 10,000 rows with a line for each number would take longer to write than to make."""
    if shares is None:
        return ""
    return " ".join(map(str, np.rint((shares[:NUM_DRAWS] - shares.mean()) / DRAW_UNIT).astype(int).tolist()))


@dataclass
class FirstRow:
    """What all other rows are compared with."""

    runs: Sequence[FinishedRun]
    known: dict[tuple[int, ...], dict[str, Floats]] = field(default_factory=dict)
    """Resamples by the seeds that another row has, which mostly are the same."""

    def shares(self, metrics: Sequence[str], runs: Sequence[FinishedRun]) -> dict[str, Floats]:
        """Those of some of its runs; see `_shares`."""
        seeds = tuple(run.seed for run in runs)
        if seeds not in self.known:
            self.known[seeds] = _shares(metrics, runs)
        return self.known[seeds]


def _shares(metrics: Sequence[str], runs: Sequence[FinishedRun]) -> dict[str, Floats]:
    """Resamples of the mean over runs of each metric that is known unit by unit."""
    task, groups = runs[0].task, [run.units for run in runs]
    known = groups[0][0]
    asked = [metric for metric in metrics if metric in {*known, *measured(task.means, known)}]
    if not asked:
        return {}
    mean: list[Units] = (
        groups[0]
        if len(groups) == 1
        else [
            {name: (np.mean([own[name][0] for own in group], axis=0), counts) for name, (_, counts) in group[0].items()}
            for group in zip(*groups, strict=True)
        ]
    )
    shares = resampled_ratios(mean, task.means, asked=asked)
    return {metric: shares[metric] for metric in asked}


def _row_result(results: StudyResults, row: Row, *, paired: bool) -> RowResult:
    runs, first = results.finished[row.name], results.first_row()
    total = float(np.mean([run.record.seconds["total"] for run in runs])) if runs else None
    caches = sum(run.record.seconds.get("caches", 0.0) for run in runs) if runs else None
    own = None if total is None or caches is None else total - caches / len(runs)
    price = results.dollars_per_hour
    measures, draws = _measures(results.study.config.metrics, runs, first, paired=paired)
    return RowResult(
        name=row.name,
        folder=row.slug,
        recipe=row.recipe_name,
        set=dict(row.settings),
        samples_seen=_samples_seen(results, row),
        metrics=measures,
        draws=draws,
        parameters=runs[0].parameters if runs else {},
        minutes=_minutes(total),
        dollars=_dollars(total, price),
        minutes_own=_minutes(own),
        minutes_caches=_minutes(caches),
        dollars_own=_dollars(own, price),
        dollars_caches=_dollars(caches, price),
        levels=dict(row.levels),
        latency_ms=results.latencies.of(row) if runs else None,
        macs_per_sample=next((macs for run in runs if (macs := getattr(run.record, "macs_per_sample", None))), None),
        dropped=_why_dropped(results, row),
        runs=[
            SeedResult(
                seed=run.seed,
                metrics=run.metrics,
                num_steps=run.record.num_steps,
                seconds=round(run.record.seconds["total"], 2),
                seconds_caches=round(run.record.seconds.get("caches", 0.0), 2),
                recipe_hash=run.record.recipe_hash,
                **run.record.provenance.model_dump(include={"hardware", "code_version", "date"}),
            )
            for run in runs
        ],
    )


def _samples_seen(results: StudyResults, row: Row) -> int:
    """As planned; where a budget ended the runs, what they came to."""
    runs = results.finished[row.name]
    if results.samples[row.name] or not runs:
        return results.samples[row.name]
    return round(float(np.mean([run.record.num_steps for run in runs])) * row.recipe.train.batch_size)


def _why_dropped(results: StudyResults, row: Row) -> str | None:
    """Of a row that was stopped, or of which no run came to an end, since all that were tried failed."""
    if row.name in results.dropped or results.finished[row.name]:
        return results.dropped.get(row.name)
    problems = [results.failed.get(f"{row.name}, seed {seed}") for seed in results.study.config.seeds]
    return problems[0] if all(problems) else None


def _left(cell: Left) -> RowResult:
    """A cell of which no run can come."""
    return RowResult(
        name=cell.name,
        folder=cell.slug,
        recipe=cell.recipe_name,
        set=dict(cell.settings),
        samples_seen=0,
        metrics={},
        parameters={},
        minutes=None,
        dollars=None,
        levels=dict(cell.levels),
        dropped=cell.reason,
        runs=[],
    )


def _minutes(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds / 60, 3)


def _dollars(seconds: float | None, price: float | None) -> float | None:
    return None if seconds is None or price is None else round(price_dollars(seconds, price), 6)
