"""Rows of tables from records, for the terminal, the report and documents alike."""

from collections.abc import Mapping, Sequence
from typing import Any

from pocketclip.cost.plan import Plan
from pocketclip.records import CostResult, Interval, RunRecord
from pocketclip.study.record import RowResult, StudyRecord

COST_COLUMNS = ("", "image", "text")

_COSTS = (
    ("parameters", "parameters_image", "parameters_text", "M"),
    ("multiply-accumulates", "macs_image", "macs_text", "M"),
    ("latency at batch 1, p50", "latency_ms_p50_image", "latency_ms_p50_text", " ms"),
    ("latency at batch 1, p95", "latency_ms_p95_image", "latency_ms_p95_text", " ms"),
    ("throughput at batch 32", "throughput_image_per_second", "throughput_text_per_second", " / s"),
    ("price of a million", "dollars_per_million_images", "dollars_per_million_texts", " $"),
)
_TOTALS = (
    ("parameters of both heads", "parameters_heads", "M"),
    ("parameters of word embeddings", "parameters_text_embeddings", "M"),
    ("size on disk", "bundle_mib", " MiB"),
    ("peak memory, libraries included", "peak_memory_mib", " MiB"),
    ("energy of this measurement", "energy_kwh", " kWh"),
)


def cost_rows(cost: CostResult) -> list[list[str]]:
    """What an image and a text cost, as in `COST_COLUMNS`."""
    metrics = cost.metrics
    rows = []
    for label, image, text, unit in _COSTS:
        if image in metrics:
            rows.append([label, _amount(metrics[image], unit), _amount(metrics.get(text), unit)])
    for label, key, unit in _TOTALS:
        if key in metrics:
            rows.append([label, _amount(metrics[key], unit), ""])
    return rows


def _amount(value: float | int | str | None, unit: str) -> str:
    if not isinstance(value, (int, float)):
        return "not measured"
    if unit == "M":
        return f"{value / 1e6:,.2f} M"
    if unit == " $":
        return f"${value:,.3f}"
    if unit == " kWh":
        return f"{value:.6f}{unit}"
    return f"{value:,.1f}{unit}"


def time_rows(run: RunRecord) -> list[tuple[str, float]]:
    """What took how many seconds: an epoch and a validation of each stage, then the whole with price and energy."""
    labels = {
        "heads_first_train": "an epoch of the heads alone",
        "heads_first_validate": "a validation of the heads alone",
        "train_train": "an epoch of training",
        "train_validate": "a validation",
    }
    rows = [(labels.get(key, key), seconds) for key, seconds in run.seconds_per_epoch.items()]
    whole = "the whole run"
    if run.price_dollars is not None:
        whole += f", ${run.price_dollars:.4f}"
    if run.energy_kwh is not None:
        whole += f", {run.energy_kwh:.4f} kWh"
    return [*rows, (whole, run.seconds["total"])]


def model_table(results: Sequence[Mapping[str, Any]]) -> str:
    """The README's table from the files that `benchmarks/recipe.py` writes, in Markdown.

    The best first; scores with intervals are of the first seed.
    """
    results = sorted(results, key=lambda result: -result["runs"][0]["text_to_image_recall@1"]["value"])
    lines = [
        "| recipe | text → image R@1 | image → text R@1 | parameters image + text | latency | trained in |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        run, cost = result["runs"][0], result["cost"]
        scores = [
            Interval.parse(run[f"{way}_recall@1"], place=result["recipe"]).percent()
            for way in ("text_to_image", "image_to_text")
        ]
        seconds = result["wall_seconds_median"]
        trained = f"{seconds / 60:.0f} min" if seconds >= 300 else f"{seconds:.0f} s"
        if (again := result["wall_seconds_cache_filled_median"]) is not None:
            trained += f", again {again:.0f} s"
        parts = [
            ", ".join([f"`{result['recipe']}`", *(f"`{change}`" for change in result["changes"])]),
            *scores,
            f"{cost['parameters_image'] / 1e6:.1f} + {cost['parameters_text'] / 1e6:.1f} M",
            f"{cost['latency_ms_p50_image']:.1f} + {cost['latency_ms_p50_text']:.1f} ms",
            trained,
        ]
        lines.append(f"| {' | '.join(parts)} |")
    return "\n".join(lines)


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


def plan_rows(plan: Plan) -> list[list[str]]:
    """What a run will take, with its range where it is an estimate."""
    rate = plan.throughput
    ranged = rate.low < rate.high
    speed = f"{rate.value:,.4g}" + (f" ({rate.low:,.4g} to {rate.high:,.4g})" if ranged else "")
    rows = [
        ["samples of an epoch", f"{plan.samples_per_epoch:,}"],
        ["samples of the whole run", f"{plan.samples_seen:,}"],
        [f"samples a second, {rate.origin}", speed],
        ["time", _duration(plan.hours)],
    ]
    if ranged:
        rows[-1][1] += f" ({_duration(plan.hours_low)} to {_duration(plan.hours_high)})"
    if plan.dollars is not None and plan.dollars_per_hour is not None:
        low, high = (hours * plan.dollars_per_hour for hours in (plan.hours_low, plan.hours_high))
        between = f" (${low:,.2f} to ${high:,.2f})" if ranged else ""
        rows.append([f"price at ${plan.dollars_per_hour:g} an hour", f"${plan.dollars:,.2f}{between}"])
    for what, num_bytes in plan.storage_bytes.items():
        shown = "not known here" if num_bytes is None else f"{num_bytes / 1e9:,.2f} GB"
        rows.append([f"storage, {what.replace('_', ' ')}", shown])
    return rows


def _duration(hours: float) -> str:
    if hours < 1 / 30:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.0f} min" if hours < 2 else f"{hours:,.1f} h"
