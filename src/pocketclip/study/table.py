"""A study's rows as a table, for the terminal and in Markdown."""

from pocketclip.records import Interval
from pocketclip.study.record import RowResult, StudyRecord


def score_columns(record: StudyRecord) -> list[str]:
    """The head of a study's scores."""
    return ["", *(_short(metric) for metric in _metrics(record))]


def score_rows(record: StudyRecord) -> list[list[str]]:
    """One row a row: each mean over seeds above its interval, below it the difference to the first row with its own."""
    return [
        [_row_name(record, row), *(_scores(row, metric, "\n") for metric in _metrics(record))] for row in record.rows
    ]


def size_columns(record: StudyRecord) -> list[str]:
    """The head of what a study's rows are and take."""
    priced = ["dollars"] if record.dollars_per_hour is not None else []
    return ["", "image", "text", "whole model", "minutes", *priced]


def size_rows(record: StudyRecord) -> list[list[str]]:
    """One row a row: parameters, and time and price of a run."""
    rows = []
    for row in record.rows:
        counts = [row.parameters.get(f"parameters_{part}") for part in ("image", "text", "total")]
        cells = ["" if count is None else f"{count / 1e6:.2f} M" for count in counts]
        cells.append("" if row.minutes is None else f"{row.minutes:.1f}")
        if record.dollars_per_hour is not None:
            cells.append("" if row.dollars is None else f"{row.dollars:.4f}")
        rows.append([_row_name(record, row), *cells])
    return rows


def _metrics(record: StudyRecord) -> list[str]:
    """The metrics of a study in the order of its file."""
    return next((list(row.metrics) for row in record.rows if row.metrics), [])


def _row_name(record: StudyRecord, row: RowResult) -> str:
    done = len(row.runs)
    return row.name if done == len(record.seeds) else f"{row.name} ({done} of {len(record.seeds)} seeds)"


def _scores(row: RowResult, metric: str, between: str) -> str:
    """Mean and difference of a row, each with its interval."""
    measure = row.metrics.get(metric)
    if measure is None:
        return ""
    factor = 1 if "_rank" in metric else 100
    parts = _interval(measure.mean, factor)
    if measure.difference is not None:
        parts += _interval(measure.difference, factor, sign="+")
    return between.join(parts)


def _interval(interval: Interval, factor: int, sign: str = "") -> list[str]:
    """A value, and the interval where it has an extent."""
    value, low, high = (factor * number for number in (interval.value, interval.low, interval.high))
    return [f"{value:{sign}.1f}", *([f"[{low:{sign}.1f}, {high:{sign}.1f}]"] if low < high else [])]


def _short(metric: str) -> str:
    """`T→I R@1` for a recall, and other names in words."""
    name = metric.replace("text_to_image_", "T→I ").replace("image_to_text_", "I→T ").replace("recall@", "R@")
    return name.replace("_", " ")


def study_markdown(record: StudyRecord) -> str:
    """A study's table in Markdown with what its numbers mean."""
    columns = [*score_columns(record), *size_columns(record)[1:]]
    lines = [f"# {record.name}", "", f"    {record.provenance.command}", ""]
    lines += [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for scores, sizes in zip(score_rows(record), size_rows(record), strict=True):
        name = scores[0].replace("|", "/")
        cells = [cell.replace("\n[", " [").replace("\n", "<br>") for cell in scores[1:]]
        lines.append(f"| {' | '.join([name, *cells, *sizes[1:]])} |")
    return "\n".join([*lines, "", *(f"- {note}" for note in study_notes(record)), ""])


def study_notes(record: StudyRecord) -> list[str]:
    """What a study's numbers are, one sentence a line."""
    first = record.rows[0].name
    lines = [
        f"Validation split: {record.num_images:,} images, {record.num_captions:,} captions ({record.dataset}). Means "
        f"over seeds {', '.join(map(str, record.seeds))}; recalls and accuracies in percent, with their intervals.",
        f"Against the first: against '{first}', with the same seeds.",
        f"Intervals are {record.intervals}",
        f"Parameters are those of the towers and, heads included, the whole model. Minutes are of one run on "
        f"{record.provenance.hardware}" + (f", {record.num_jobs} at a time." if record.num_jobs > 1 else "."),
    ]
    samples = {row.samples_seen for row in record.rows}
    if len(samples) == 1:
        lines.append(f"Every row sees {samples.pop():,} samples.")
    else:
        lines.append(
            "Rows see different numbers of samples: "
            + ", ".join(f"'{row.name}' {row.samples_seen:,}" for row in record.rows)
            + "."
        )
    if record.dollars_per_hour is not None:
        lines.append(f"Dollars are of one run at ${record.dollars_per_hour:g} an hour.")
    if record.num_finished < record.num_runs:
        lines.append(f"{record.num_finished} of {record.num_runs} runs are finished.")
    lines += [f"Failed: {name}: {problem}" for name, problem in record.failed.items()]
    return [*lines, *(f"Note: {note}." for note in record.notes)]
