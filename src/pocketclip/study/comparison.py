"""A study's table: each row's means over seeds with intervals, and its differences to the first row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pocketclip.cost.price import price_dollars
from pocketclip.errors import UserError
from pocketclip.evaluate.intervals import join, meaning
from pocketclip.evaluate.statistics import Floats, Units, resampled_ratios
from pocketclip.records import Interval, Provenance
from pocketclip.study.grid import Row, Study
from pocketclip.study.record import Measure, RowResult, SeedResult, StudyRecord
from pocketclip.study.runs import FinishedRun


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
    failed: dict[str, str] = field(default_factory=dict)
    """What went wrong, by run."""


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
    evaluation, paired = runs[0].evaluations[0], all(_same_questions(run, runs[0]) for run in runs)
    return StudyRecord(
        name=study.name,
        changes=list(study.changes),
        dataset=evaluation.dataset,
        num_images=evaluation.num_images,
        num_captions=evaluation.num_captions,
        seeds=list(config.seeds),
        intervals=meaning(runs[0].task.unit),
        dollars_per_hour=results.dollars_per_hour,
        num_jobs=results.num_jobs,
        num_runs=len(study.rows) * len(config.seeds),
        num_finished=len(runs),
        failed=dict(results.failed),
        notes=_notes(study, runs, paired=paired),
        rows=[_row_result(results, row, paired=paired) for row in study.rows],
        provenance=Provenance(),
    )


def _same_questions(run: FinishedRun, other: FinishedRun) -> bool:
    """Whether two runs were asked the same, unit by unit."""
    return 0 < len(run.units) == len(other.units) and all(
        ours.keys() == theirs.keys() and all(np.array_equal(ours[name][1], theirs[name][1]) for name in ours)
        for ours, theirs in zip(run.units, other.units, strict=True)
    )


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
    metrics: Sequence[str], runs: Sequence[FinishedRun], first: Sequence[FinishedRun], *, paired: bool
) -> dict[str, Measure]:
    """Each metric of a row, and its difference to the first row over the seeds that both have."""
    if not runs:
        return {}
    others = {run.seed: run for run in first if runs is not first}
    ours = [run for run in runs if run.seed in others]
    theirs = [others[run.seed] for run in ours]
    shares, plus, minus = (_shares(metrics, part) if paired and part else {} for part in (runs, ours, theirs))
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
    return measures


def _shares(metrics: Sequence[str], runs: Sequence[FinishedRun]) -> dict[str, Floats]:
    """Resamples of the mean over runs of each metric that is known unit by unit."""
    task, groups = runs[0].task, [run.units for run in runs]
    asked = [metric for metric in metrics if metric in {*groups[0][0], *task.means}]
    if not asked:
        return {}
    mean: list[Units] = [
        {name: (np.mean([own[name][0] for own in group], axis=0), counts) for name, (_, counts) in group[0].items()}
        for group in zip(*groups, strict=True)
    ]
    shares = resampled_ratios(mean, task.means)
    return {metric: shares[metric] for metric in asked}


def _row_result(results: StudyResults, row: Row, *, paired: bool) -> RowResult:
    runs, first = results.finished[row.name], results.finished[results.study.rows[0].name]
    total = float(np.mean([run.record.seconds["total"] for run in runs])) if runs else None
    caches = sum(run.record.seconds.get("caches", 0.0) for run in runs) if runs else None
    own = None if total is None or caches is None else total - caches / len(runs)
    price = results.dollars_per_hour
    return RowResult(
        name=row.name,
        folder=row.slug,
        recipe=row.recipe_name,
        set=dict(row.settings),
        samples_seen=results.samples[row.name],
        metrics=_measures(results.study.config.metrics, runs, first, paired=paired),
        parameters=runs[0].parameters if runs else {},
        minutes=_minutes(total),
        dollars=_dollars(total, price),
        minutes_own=_minutes(own),
        minutes_caches=_minutes(caches),
        dollars_own=_dollars(own, price),
        dollars_caches=_dollars(caches, price),
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


def _minutes(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds / 60, 3)


def _dollars(seconds: float | None, price: float | None) -> float | None:
    return None if seconds is None or price is None else round(price_dollars(seconds, price), 6)
