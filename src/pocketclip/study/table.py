"""A study's rows as a table, for the terminal and in Markdown."""

from collections.abc import Sequence

from pocketclip.evaluate.tasks import EmbeddingTask, Task, task_kinds
from pocketclip.study.record import RowResult, StudyRecord

MOST_NAMED = 24
"""Rows and runs that a note names one by one."""


def tasks_of(record: StudyRecord) -> list[type[Task]]:
    """The task of a study; where its record does not say, all of them, of which the first that has a score counts."""
    kinds = task_kinds()
    return [kinds[record.task]] if record.task in kinds else list(kinds.values())


def score_columns(record: StudyRecord) -> list[str]:
    """The head of a study's scores, in the tasks' shorter names or in words."""
    tasks = [task for task in reversed(tasks_of(record)) if issubclass(task, EmbeddingTask)]
    labels = {metric: label for task in tasks for metric, label in task.labels.items()}
    return ["", *(labels.get(metric, metric.replace("_", " ")) for metric in metrics_of(record))]


def score_rows(record: StudyRecord) -> list[list[str]]:
    """One row a row: each mean over seeds above its interval, below it the difference to the first row with its own."""
    return [[row_name(record, row), *(_scores(row, metric) for metric in metrics_of(record))] for row in record.rows]


def size_columns(record: StudyRecord) -> list[str]:
    """The head of what a study's rows are and take."""
    names = ["minutes", "dollars"] if record.dollars_per_hour is not None else ["minutes"]
    if pays_for_caches(record):
        names = [each for name in names for each in (name, f"{name} of caches")]
    return ["", "image", "text", "whole model", *(["latency, ms"] if has_latency(record) else []), *names]


def has_latency(record: StudyRecord) -> bool:
    """Whether that of any row was measured."""
    return any(row.latency_ms is not None for row in record.rows)


def pays_for_caches(record: StudyRecord) -> bool:
    """Whether a row put something into caches, which others then found there."""
    return any(row.minutes_caches for row in record.rows)


def size_rows(record: StudyRecord) -> list[list[str]]:
    """One row a row: parameters, latency, and time and price of a run."""
    rows, shows_latency, shows_caches = [], has_latency(record), pays_for_caches(record)  # asked once of 10,000 rows
    for row in record.rows:
        counts = [row.parameters.get(f"parameters_{part}") for part in ("image", "text", "total")]
        cells = ["" if count is None else f"{count / 1e6:.2f} M" for count in counts]
        if shows_latency:
            cells.append("" if row.latency_ms is None else f"{row.latency_ms:.1f}")
        minutes, dollars = own_time(row), own_price(row)
        amounts = [(minutes, row.minutes_caches, 1)]
        if record.dollars_per_hour is not None:
            amounts.append((dollars, row.dollars_caches, 4))
        for own, caches, digits in amounts:
            cells.append("" if own is None else f"{own:.{digits}f}")
            if shows_caches:
                cells.append("" if not caches else f"{caches:.{digits}f}")
        rows.append([row_name(record, row), *cells])
    return rows


def own_time(row: RowResult) -> float | None:
    """Minutes of a run without those for the caches; of a record that does not tell them apart, all."""
    return row.minutes if row.minutes_own is None else row.minutes_own


def own_price(row: RowResult) -> float | None:
    """Dollars of the same minutes."""
    return row.dollars if row.dollars_own is None else row.dollars_own


def metrics_of(record: StudyRecord) -> list[str]:
    """The metrics of a study in the order of its file."""
    return next((list(row.metrics) for row in record.rows if row.metrics), [])


def main_of(metrics: Sequence[str]) -> str | None:
    """The score that a study is about: the one that a task's first sentence is about, else the first share."""
    shares = [metric for metric in metrics if "_rank" not in metric]
    openings = {metric for task in task_kinds().values() for metric in task.openings}
    return next((metric for metric in shares if metric in openings), shares[0] if shares else None)


def row_name(record: StudyRecord, row: RowResult) -> str:
    """A row, with what is missing of it."""
    done = len(row.runs)
    return row.name if done == len(record.seeds) else f"{row.name} ({done} of {len(record.seeds)} seeds)"


def _scores(row: RowResult, metric: str) -> str:
    """Mean and difference of a row, each with its interval where that has an extent."""
    measure, lines = row.metrics.get(metric), []
    factor = 1 if "_rank" in metric else 100
    for interval, sign in ((measure.mean, ""), (measure.difference, "+")) if measure is not None else ():
        if interval is not None:
            value, low, high = (factor * number for number in (interval.value, interval.low, interval.high))
            lines += [f"{value:{sign}.1f}", *([f"[{low:{sign}.1f}, {high:{sign}.1f}]"] if low < high else [])]
    return "\n".join(lines)


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


def _on_samples(record: StudyRecord) -> list[str]:
    """What rows see, of those where it is known: a run that a budget ends tells it only when it is over."""
    seen = {row.name: row.samples_seen for row in record.rows if row.dropped is None and row.samples_seen}
    if len(counts := set(seen.values())) < 2:
        return [f"Every row sees {count:,} samples." for count in counts]
    if len(record.rows) > MOST_NAMED:
        return [f"Rows see {min(counts):,} to {max(counts):,} samples."]
    each = ", ".join(f"'{name}' {count:,}" for name, count in seen.items())
    return [f"Rows see different numbers of samples: {each}."]


def listed_failures(record: StudyRecord) -> list[str]:
    """What went wrong, a run a line; of very many the first."""
    lines = [f"{name}: {problem}" for name, problem in list(record.failed.items())[:MOST_NAMED]]
    rest = len(record.failed) - MOST_NAMED
    return [*lines, f"{rest:,} more runs, which the record names."] if rest > 0 else lines


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
    if has_latency(record):
        lines.append("Latency is of one picture and one sentence at batch 1, measured when all runs were over.")
    if pays_for_caches(record):
        lines.append(
            "Of caches: all that a row's runs computed that is kept, such as features of frozen towers. The first run "
            "that needs it pays, once, and others find it there. It is not in the minutes and dollars of a run."
        )
    lines += _on_samples(record)
    if record.dollars_per_hour is not None:
        lines.append(f"Dollars are of one run at ${record.dollars_per_hour:g} an hour.")
    if record.num_finished < record.num_runs:
        lines.append(f"{record.num_finished} of {record.num_runs} runs are finished.")
    lines += [f"Failed: {failure}" for failure in listed_failures(record)]
    return [*lines, *(f"Note: {note}." for note in record.notes)]
