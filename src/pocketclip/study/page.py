"""A study's page: what it found in words and pictures, each row's scores and their table, and what each row finds."""

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from pocketclip.evaluate.tasks import EmbeddingTask
from pocketclip.records import Interval
from pocketclip.report.amounts import duration, short_count, short_dollars
from pocketclip.report.gallery import Example, read_gallery
from pocketclip.report.page import make_room, write_page
from pocketclip.study.bars import score_bars
from pocketclip.study.figure_files import figures_folder, write_figures
from pocketclip.study.findings import Findings, find_out
from pocketclip.study.names import as_text
from pocketclip.study.record import Measure, RowResult, StudyRecord, read_study
from pocketclip.study.table import (
    metrics_of,
    own_price,
    own_time,
    row_name,
    score_columns,
    score_rows,
    study_notes,
    tasks_of,
)

NUM_EXAMPLES = 4
"""Sentences of each row's gallery, which are the same ones in all rows; keeps the page at a MiB a row."""
SIZES = [
    "row", "image", "text", "whole model", "latency", "time of a run", "once, for caches", "price of a run",
    "price of the caches",
]  # fmt: skip


MOST_ROWS, MOST_GALLERIES = 24, 6
"""That a page lists and whose pictures it shows, the best of them; the CSV has all."""


def write_study_page(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a study, finished or not, to `study.html` in its folder or elsewhere.

    Raises:
        UserError: no run is finished yet, or a file is damaged.
    """
    record = read_study(folder)
    out = folder / "study.html" if out is None else out
    make_room(out)
    found = find_out(record)
    drawn = write_figures(found, out)
    shown = record.model_copy(update={"rows": _listed(found)})
    script = (resources.files("pocketclip.report") / "study.js").read_text(encoding="utf-8")
    return write_page(
        out,
        "study.html",
        study=record,
        found=found,
        drawn=drawn,
        figures=figures_folder(out).name,
        script=script if drawn or found.bests else "",
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        sentences=study_headline(record),
        meaning=_meaning(record),
        measures=score_bars(shown),
        scores=(score_columns(record), score_rows(shown)),
        sizes=(SIZES, _sizes(shown)),
        rows=[(row.name, _settings(row)) for row in shown.rows],
        galleries=_galleries(shown, folder),
        notes=study_notes(record),
    )


def _listed(found: Findings) -> Sequence[RowResult]:
    """The rows of the page: all of them, or the first and the best of many."""
    rows = found.cells.record.rows
    if len(rows) <= MOST_ROWS:
        return rows
    ordered = sorted(found.cells, key=lambda cell: cell.error.value)
    return [rows[0], *(cell.row for cell in ordered if cell.row is not rows[0])][:MOST_ROWS]


def study_headline(record: StudyRecord) -> list[str]:
    """Which row is right most often, and whether it is surely better than the first."""
    openings = {metric: words for task in reversed(tasks_of(record)) for metric, words in task.openings.items()}
    metric = next((metric for metric in metrics_of(record) if metric in openings), None)
    scored = [row for row in record.rows if metric in row.metrics]
    if metric is None or not scored:
        return []
    best = max(scored, key=lambda row: row.metrics[metric].mean.value)
    first, measure = record.rows[0], best.metrics[metric]
    sentence = openings[metric].format(f"{100 * measure.mean.value:.1f}")
    if len(scored) == 1:
        return [f"{sentence} with '{best.name}', the only row that is finished."]
    sentences = [f"{sentence} with '{best.name}', most of {len(scored)} rows."]
    if best is not first and (gain := measure.difference) is not None:
        sure = "" if gain.low > 0 else ": it may be none"
        sentences.append(f"That is {_gain(gain)} against '{first.name}', the first row{sure}.")
    rivals = [row for row in scored if best is first and row is not first and _may_be_none(row.metrics[metric])]
    if rivals:
        names = ", ".join(f"'{row.name}'" for row in rivals)
        sentences.append(f"As far as the intervals tell, as good may be {names}.")
    return sentences


def _may_be_none(measure: Measure) -> bool:
    return measure.difference is not None and measure.difference.high >= 0


def _gain(gain: Interval) -> str:
    value, low, high = (100 * number for number in (gain.value, gain.low, gain.high))
    return f"{value:+z.1f} [{low:+z.1f}, {high:+z.1f}]"


def _meaning(record: StudyRecord) -> str:
    """What the scores count, of the task that has them."""
    tasks = (task for task in tasks_of(record) if issubclass(task, EmbeddingTask))
    return next((task.meaning for task in tasks if any(metric in task.labels for metric in metrics_of(record))), "")


def _sizes(record: StudyRecord) -> list[list[str]]:
    """Parameters and latency of each row, and time and price of a run."""
    rows = []
    for row in record.rows:
        counts = [row.parameters.get(f"parameters_{part}") for part in ("image", "text", "total")]
        rows.append(
            [
                row_name(record, row),
                *("" if count is None else short_count(count) for count in counts),
                "" if row.latency_ms is None else f"{row.latency_ms:.1f} ms",
                "" if (minutes := own_time(row)) is None else duration(60 * minutes),
                duration(60 * row.minutes_caches) if row.minutes_caches else "",
                "" if (dollars := own_price(row)) is None else short_dollars(dollars),
                short_dollars(row.dollars_caches) if row.dollars_caches else "",
            ]
        )
    return rows


def _settings(row: RowResult) -> str:
    """How a row differs from the base."""
    return ", ".join([row.recipe, *(f"{key}={as_text(value)}" for key, value in row.set.items())])


def _galleries(record: StudyRecord, folder: Path) -> list[tuple[str, list[Example]]]:
    """Of each row what its first run with pictures finds; rows without any are left out."""
    found = []
    rows = record.rows if len(record.rows) < MOST_ROWS else record.rows[:MOST_GALLERIES]
    for row in rows:
        runs = (read_gallery(folder / row.folder / f"seed-{run.seed}") for run in row.runs)
        gallery = next((gallery for gallery in runs if gallery is not None), None)
        if gallery is not None and gallery.text_to_image:
            found.append((row.name, gallery.text_to_image[:NUM_EXAMPLES]))
    return found
