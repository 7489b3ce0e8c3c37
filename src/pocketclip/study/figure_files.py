"""The folder beside a study's page: its pictures as PNG and SVG, and all of its numbers as CSV."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from pocketclip.files import cannot_write, write_atomically
from pocketclip.report.chart import Drawn, draw
from pocketclip.study.figures import study_charts
from pocketclip.study.findings import Findings
from pocketclip.study.laws import residual_chart
from pocketclip.study.record import RowResult
from pocketclip.study.scored import Cell, Cells
from pocketclip.study.table import metrics_of


def figures_folder(out: Path) -> Path:
    """Where they lie: `study_figures` beside `study.html`, which no row's folder is called."""
    return out.with_name(f"{out.stem}_figures")


def write_figures(found: Findings, out: Path) -> list[Drawn]:
    """Write pictures and CSV; returns the pictures, none for a study that has nothing to draw.

    Raises:
        UserError: the folder cannot be made, or the disk is full.
    """
    folder = figures_folder(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    charts = study_charts(found.cells, found.laws)
    residuals = residual_chart(found.laws)
    drawn = [draw(chart) for chart in [*charts, *([residuals] if residuals is not None else [])]]
    for picture in drawn:
        write_atomically(folder / f"{picture.chart.slug}.svg", picture.svg)
        write_atomically(folder / f"{picture.chart.slug}.png", picture.png)
    for name, text in _tables(found).items():
        write_atomically(folder / f"{name}.csv", text)
    return drawn


def _tables(found: Findings) -> dict[str, str]:
    tables = {"cells": _cells_csv(found.cells), "runs": _runs_csv(found.cells)}
    if found.bests:
        bests = [[own.budget, own.cell.name, *_bounds(own.cell.error), own.num_cells, len(own.rivals), own.command]
                 for own in found.bests]  # fmt: skip
        head = ["budget", "best", "error", "error low", "error high", "cells", "may be as good", "command"]
        tables["best"] = _csv(head, bests)
    if found.effects:
        rows = [
            [own.axis.name, effect.better, effect.worse, effect.num_cells, *_bounds(effect.gain),
             "yes" if effect.is_sure else "can't be told"]
            for own in found.effects for effect in own.against_best
        ]  # fmt: skip
        head = ["axis", "best", "against", "pairs of cells", "gain", "gain low", "gain high", "sure"]
        tables["axes"] = _csv(head, rows)
    if found.laws:
        head = ["series", "a", "a low", "a high", "b", "b low", "b high", "c", "c low", "c high", "middle", "spread"]
        laws = [
            [own.name, *_bounds(own.law.a), *_bounds(own.law.b), *(_bounds(own.law.c) if own.law.c else ("", "", "")),
             own.law.middle, own.law.spread]
            for own in found.laws
        ]  # fmt: skip
        tables["laws"] = _csv(head, laws)
        points = [
            [own.name, cell.name, cell.compute, cell.error.value, residual]
            for own in found.laws for cell, residual in zip(own.cells, own.law.residuals, strict=True)
        ]  # fmt: skip
        tables["residuals"] = _csv(["series", "cell", "compute_macs", "error", "residual"], points)
    return tables


def _cells_csv(cells: Cells) -> str:
    """Every row of the study: where it stands, what it took, its scores, and why it has none."""
    record = cells.record
    scored = {id(cell.row): cell for cell in cells}
    metrics, axes = metrics_of(record), list(record.axes)
    head = [
        "name", *axes, "dropped", "recipe", "settings", "samples_seen", "macs_per_sample", "compute_macs",
        "parameters_total", "latency_ms", "minutes", "dollars", "num_seeds", "error", "error low", "error high",
        *(f"{metric}{ending}" for metric in metrics for ending in ("", " low", " high")),
    ]  # fmt: skip
    return _csv(head, (_cell_line(row, scored.get(id(row)), axes, metrics) for row in record.rows))


def _cell_line(row: RowResult, cell: Cell | None, axes: Sequence[str], metrics: Sequence[str]) -> list[object]:
    settings = json.dumps(row.set, ensure_ascii=False)
    scores = [_bounds(row.metrics[metric].mean) if metric in row.metrics else ("", "", "") for metric in metrics]
    own = [cell.compute, *_bounds(cell.error)] if cell is not None else [None, "", "", ""]
    return [
        row.name, *(row.levels.get(axis, "") for axis in axes), row.dropped, row.recipe, settings, row.samples_seen,
        row.macs_per_sample, own[0], row.parameters.get("parameters_total"), row.latency_ms, row.minutes, row.dollars,
        len(row.runs), *own[1:], *(number for bounds in scores for number in bounds),
    ]  # fmt: skip


def _runs_csv(cells: Cells) -> str:
    metrics = metrics_of(cells.record)
    rows = (
        [row.name, run.seed, run.num_steps, run.seconds, run.recipe_hash, *(run.metrics.get(own) for own in metrics)]
        for row in cells.record.rows for run in row.runs
    )  # fmt: skip
    return _csv(["name", "seed", "num_steps", "seconds", "recipe_hash", *metrics], rows)


def _bounds(own: object) -> tuple[object, object, object]:
    return getattr(own, "value", ""), getattr(own, "low", ""), getattr(own, "high", "")


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    return output.getvalue()
