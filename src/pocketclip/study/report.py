"""A page about one run or several: scores with intervals, cost, curves, pictures. One file, no network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketclip.errors import UserError
from pocketclip.files import write_atomically
from pocketclip.records import CostResult, EvalResult, RunRecord, read_records
from pocketclip.study.gallery import Gallery, read_gallery
from pocketclip.study.page import render_page
from pocketclip.study.plot import line_plot
from pocketclip.study.table import accuracy_rows, cost_rows, has_recalls, percent, retrieval_rows, time_rows
from pocketclip.train.metrics import read_metrics


@dataclass(frozen=True)
class RunReport:
    """Everything the page shows of a run."""

    name: str
    folder: Path
    run: RunRecord | None
    evaluations: list[EvalResult]
    cost: CostResult | None
    plots: list[tuple[str, str]]
    """Title and SVG."""
    gallery: Gallery | None
    recipe: str


def read_run(folder: Path) -> RunReport:
    """Collect a run's records, metrics and gallery.

    Raises:
        UserError: it is not a run folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder.")
    records = read_records(folder)
    if not records:
        raise UserError(f"{folder}: no records here yet; did the run finish?")
    run = next((record for record in records if isinstance(record, RunRecord)), None)
    recipe = folder / "recipe.yaml"
    return RunReport(
        name=run.name if run is not None else folder.name,
        folder=folder,
        run=run,
        evaluations=sorted(
            (record for record in records if isinstance(record, EvalResult)), key=lambda record: record.split
        ),
        cost=next((record for record in records if isinstance(record, CostResult)), None),
        plots=_plots(folder),
        gallery=read_gallery(folder),
        recipe=recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
    )


def _plots(folder: Path) -> list[tuple[str, str]]:
    rows = read_metrics(folder)
    losses: dict[str, list[tuple[float, float]]] = {}
    recalls: dict[str, list[tuple[float, float]]] = {}
    offset, last, stage = 0.0, 0.0, ""
    for row in rows:
        if row["stage"] != stage:  # stages follow each other on one axis
            offset, stage = offset + last, row["stage"]
        last = row["epoch"]
        place = offset + row["epoch"]
        for key, curves, label in (
            ("loss", losses, "training"),
            ("val_loss", losses, "validation"),
            ("text_to_image_recall@1", recalls, "text to image R@1"),
            ("image_to_text_recall@1", recalls, "image to text R@1"),
        ):
            if key in row:
                curves.setdefault(label, []).append((place, row[key]))
    plots = []
    if losses:
        plots.append(("Loss", line_plot(losses, x_label="epoch", y_label="loss")))
    if recalls:
        plots.append(("Validation recall", line_plot(recalls, x_label="epoch", y_label="%", percent=True)))
    return plots


def write_report(folders: list[Path], out: Path) -> Path:
    """Write the page.

    Args:
        folders: run folders; more than one adds a comparison at the top.
        out: an HTML file.
    """
    runs = [read_run(folder) for folder in folders]
    page = render_page(
        "report.html",
        runs=runs,
        comparison=_comparison(runs) if len(runs) > 1 else [],
        retrieval_rows=retrieval_rows,
        accuracy_rows=accuracy_rows,
        has_recalls=has_recalls,
        cost_rows=cost_rows,
        time_rows=time_rows,
    )
    write_atomically(out, page)
    return out


def _comparison(runs: list[RunReport]) -> list[dict[str, Any]]:
    """One row a run: score, size, speed, time."""
    rows = []
    for run in runs:
        retrieval = [result for result in run.evaluations if has_recalls(result)]
        result = min(retrieval, key=lambda result: result.split != "test", default=None)
        metrics = run.cost.metrics if run.cost is not None else {}
        rows.append(
            {
                "name": run.name,
                "text": percent(result.metrics["text_to_image_recall@1"]) if result else "",
                "image": percent(result.metrics["image_to_text_recall@1"]) if result else "",
                "split": f"{result.split}, {result.num_images:,} images" if result else "",
                "parameters": f"{float(metrics.get('parameters_total') or 0) / 1e6:,.1f} M" if metrics else "",
                "latency": f"{float(metrics.get('latency_ms_p50') or 0):,.1f} ms" if metrics else "",
                "seconds": f"{run.run.seconds['total']:,.0f} s" if run.run else "",
            }
        )
    return rows
