"""A page about one run or several: scores with intervals, cost, curves, pictures. One file, no network."""

import shlex
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pocketclip.errors import UserError
from pocketclip.evaluate.tasks import Task, task_of
from pocketclip.files import no_such
from pocketclip.records import CostResult, EvalResult, RunRecord, read_records
from pocketclip.report.amounts import duration
from pocketclip.report.classes import (
    CLASS_COLUMNS,
    GROUP_COLUMNS,
    SHIFT_COLUMNS,
    ClassPage,
    Shift,
    class_page,
    group_rows,
    shifts,
)
from pocketclip.report.curves import training_plots
from pocketclip.report.gallery import Gallery, read_gallery
from pocketclip.report.headline import comparison_headline, headline
from pocketclip.report.page import write_page
from pocketclip.report.table import BUSY, cost_rows, time_rows

MAX_NAMED = 8
"""Runs in the line that a message proposes."""


@dataclass(frozen=True)
class RunReport:
    """Everything the page shows of a run."""

    name: str
    run: RunRecord | None
    evaluations: list[EvalResult]
    cost: CostResult | None
    plots: list[tuple[str, str]]
    """Title and SVG."""
    gallery: Gallery | None
    recipe: str

    @property
    def headline(self) -> list[str]:
        """What the page says first of the run."""
        return headline(self.evaluations)

    @property
    def times(self) -> list[tuple[str, str]]:
        """What took how long."""
        return [] if self.run is None else [(label, duration(seconds)) for label, seconds in time_rows(self.run)]

    @property
    def class_pages(self) -> list[tuple[str, ClassPage]]:
        """How classes fared, of each record that says so, by what it was measured on."""
        pages = [(task_of(own).measured_on(own), class_page(own)) for own in self.evaluations]
        return [(on, page) for on, page in pages if page is not None]

    @property
    def group_tables(self) -> list[tuple[str, list[list[str]]]]:
        """How groups of images fared, of each record that says so, by what groups them and on what."""
        told = [own for own in self.evaluations if own.groups]
        names = [f"{own.settings.get('grouped_by', 'group')}, {task_of(own).measured_on(own)}" for own in told]
        return [(name, group_rows(own)) for name, own in zip(names, told, strict=True)]

    @property
    def shift(self) -> Shift | None:
        """What other kinds of pictures cost."""
        return shifts(self.evaluations)

    @property
    def tables(self) -> list[tuple[Task, list[EvalResult]]]:
        """Evaluations by their task."""
        kinds = dict.fromkeys(result.task for result in self.evaluations)
        own = [[result for result in self.evaluations if result.task == kind] for kind in kinds]
        return [(task_of(results[0]), results) for results in own]


def read_run(folder: Path) -> RunReport:
    """Collect a run's records, metrics and gallery; a UserError where the folder is not one of a run."""
    if not folder.is_dir():
        raise no_such("run folder", folder)
    records = read_records(folder)
    if not records:
        raise UserError(f"{folder}: no records here yet; did the run finish?{_runs_below(folder)}")
    run = next((record for record in records if isinstance(record, RunRecord)), None)
    evaluations = [own for own in records if isinstance(own, EvalResult)]
    evaluations.sort(key=lambda own: (own.split == "all", own.split))  # the run's own splits first
    recipe = folder / "recipe.yaml"
    return RunReport(
        name=run.name if run is not None else folder.name,
        run=run,
        evaluations=evaluations,
        cost=next((record for record in records if isinstance(record, CostResult)), None),
        plots=training_plots(folder, evaluations),
        gallery=read_gallery(folder),
        recipe=recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
    )


def _runs_below(folder: Path) -> str:
    """Where a folder holds runs, the line that makes a page of them."""
    runs = sorted(path.parent for path in folder.glob("*/records") if any(path.glob("*.json")))
    return f" Of the runs in it: pocketclip report {shlex.join(map(str, runs[:MAX_NAMED]))}" if runs else ""


def write_report(folders: list[Path], out: Path) -> Path:
    """Write the page of some run folders to an HTML file; more than one adds a comparison at the top."""
    runs = [read_run(folder) for folder in folders]
    counts = Counter(run.name for run in runs)
    runs = [
        replace(run, name=f"{run.name}, {folder}") if counts[run.name] > 1 else run
        for run, folder in zip(runs, folders, strict=True)
    ]
    comparison = _comparison(runs) if len(runs) > 1 else None
    columns = {"class_columns": CLASS_COLUMNS, "group_columns": GROUP_COLUMNS, "shift_columns": SHIFT_COLUMNS}
    return write_page(out, "runs.html", runs=runs, comparison=comparison, cost_rows=cost_rows, **columns)


def _comparison(runs: list[RunReport]) -> dict[str, Any]:
    """Runs side by side: a row a run with the first column of its scores, its size, speed and time."""
    results = [min(run.evaluations, key=lambda result: result.split != "test", default=None) for run in runs]
    scores = [{} if result is None else _first_scores(result) for result in results]
    labels = list(dict.fromkeys(label for own in scores for label in own))
    rows = []
    for run, result, own in zip(runs, results, scores, strict=True):
        metrics = run.cost.metrics if run.cost is not None else {}
        parameters, latency = (metrics.get(key) for key in ("parameters_total", "latency_ms_p50"))
        rows.append(
            [
                run.name,
                *(own.get(label, "") for label in labels),
                f"{result.split}, {result.num_images:,} images" if result else "",
                f"{float(parameters) / 1e6:,.1f} M" if parameters else "",
                f"{float(latency):,.1f} ms{_busy(run.cost)}" if latency else "",
                duration(run.run.seconds["total"]) + _busy(run.run) if run.run else "",
            ]
        )
    columns = ["run", *labels, "measured on", "parameters", "latency, image + text", "whole run"]
    sentences = comparison_headline([(run.name, result) for run, result in zip(runs, results, strict=True)])
    return {"columns": columns, "rows": rows, "sentences": sentences}


def _busy(record: CostResult | RunRecord | None) -> str:
    return f" {BUSY}" if record is not None and record.provenance.is_busy else ""


def _first_scores(result: EvalResult) -> dict[str, str]:
    """The first column of a result's table."""
    task = task_of(result)
    return {f"{row[0]} {task.columns[1]}": row[1] for row in task.rows(result)}
