"""A page about one run or several: scores with intervals, cost, curves, pictures. One file, no network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketclip.errors import UserError
from pocketclip.evaluate.tasks import EmbeddingTask, Task, task_kinds, task_of
from pocketclip.files import write_atomically
from pocketclip.records import CostResult, EvalResult, RunRecord, read_records
from pocketclip.report.gallery import Gallery, read_gallery
from pocketclip.report.page import render_page
from pocketclip.report.plot import line_plot
from pocketclip.report.table import cost_rows, time_rows
from pocketclip.train.metrics import read_metrics


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
    def tables(self) -> list[tuple[Task, list[EvalResult]]]:
        """Evaluations by their task."""
        kinds = dict.fromkeys(result.task for result in self.evaluations)
        own = [[result for result in self.evaluations if result.task == kind] for kind in kinds]
        return [(task_of(results[0]), results) for results in own]


def read_run(folder: Path) -> RunReport:
    """Collect a run's records, metrics and gallery; a UserError where the folder is not one of a run."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder.")
    records = read_records(folder)
    if not records:
        raise UserError(f"{folder}: no records here yet; did the run finish?")
    run = next((record for record in records if isinstance(record, RunRecord)), None)
    recipe = folder / "recipe.yaml"
    return RunReport(
        name=run.name if run is not None else folder.name,
        run=run,
        evaluations=sorted((own for own in records if isinstance(own, EvalResult)), key=lambda own: own.split),
        cost=next((record for record in records if isinstance(record, CostResult)), None),
        plots=_plots(folder),
        gallery=read_gallery(folder),
        recipe=recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
    )


def _plots(folder: Path) -> list[tuple[str, str]]:
    shown = {"loss": ("Loss", "training"), "val_loss": ("Loss", "validation")}
    for task in (kind() for kind in task_kinds().values() if issubclass(kind, EmbeddingTask)):
        what, labels = task.curves
        shown |= {key: (f"Validation {what}", label) for key, label in labels.items()}
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {title: {} for title, _ in shown.values()}
    offset, last, stage = 0.0, 0.0, ""
    for row in read_metrics(folder):
        if row["stage"] != stage:  # stages follow each other on one axis
            offset, stage = offset + last, row["stage"]
        last = row["epoch"]
        for key, (title, label) in shown.items():
            if key in row:
                curves[title].setdefault(label, []).append((offset + row["epoch"], row[key]))
    return [
        (title, line_plot(own, x_label="epoch", y_label="loss" if title == "Loss" else "%", percent=title != "Loss"))
        for title, own in curves.items()
        if own
    ]


def write_report(folders: list[Path], out: Path) -> Path:
    """Write the page of some run folders to an HTML file; more than one adds a comparison at the top."""
    runs = [read_run(folder) for folder in folders]
    comparison = _comparison(runs) if len(runs) > 1 else None
    page = render_page("runs.html", runs=runs, comparison=comparison, cost_rows=cost_rows, time_rows=time_rows)
    write_atomically(out, page)
    return out


def _comparison(runs: list[RunReport]) -> dict[str, Any]:
    """Runs side by side: what each of `scores` is, and a row a run with its scores, size, speed and time."""
    results = [min(run.evaluations, key=lambda result: result.split != "test", default=None) for run in runs]
    scores = [{} if result is None else _first_scores(result) for result in results]
    labels = list(dict.fromkeys(label for own in scores for label in own))
    rows = []
    for run, result, own in zip(runs, results, scores, strict=True):
        metrics = run.cost.metrics if run.cost is not None else {}
        rows.append(
            {
                "name": run.name,
                "scores": [own.get(label, "") for label in labels],
                "split": f"{result.split}, {result.num_images:,} images" if result else "",
                "parameters": f"{float(metrics.get('parameters_total') or 0) / 1e6:,.1f} M" if metrics else "",
                "latency": f"{float(metrics.get('latency_ms_p50') or 0):,.1f} ms" if metrics else "",
                "seconds": f"{run.run.seconds['total']:,.0f} s" if run.run else "",
            }
        )
    return {"scores": labels, "rows": rows}


def _first_scores(result: EvalResult) -> dict[str, str]:
    """The first column of a result's table."""
    task = task_of(result)
    return {f"{row[0].replace('→', 'to')} {task.columns[1]}": row[1] for row in task.rows(result)}
