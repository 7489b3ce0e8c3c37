"""Rows of tables from records, for the terminal, the report and documents alike."""

import csv
import io
from collections.abc import Iterable

from pocketclip.cost.plan import Plan
from pocketclip.evaluate.recalls import CORRECTED
from pocketclip.records import CostResult, EvalResult, Interval, RunRecord

COST_COLUMNS = ("", "image", "text")

_COSTS = (
    ("parameters", "parameters_image", "parameters_text", "M"),
    ("multiply-accumulates", "macs_image", "macs_text", "M"),
    ("latency at batch 1, p50", "latency_ms_p50_image", "latency_ms_p50_text", " ms"),
    ("latency at batch 1, p95", "latency_ms_p95_image", "latency_ms_p95_text", " ms"),
    ("throughput at batch 32", "throughput_image_per_second", "throughput_text_per_second", " / s"),
    ("price of a million", "dollars_per_million_images", "dollars_per_million_texts", " $"),
    ("parameters of both heads", "parameters_heads", None, "M"),
    ("parameters of word embeddings", "parameters_text_embeddings", None, "M"),
    ("size on disk", "bundle_mib", None, " MiB"),
    ("peak memory, libraries included", "peak_memory_mib", None, " MiB"),
    ("energy of this measurement", "energy_kwh", None, " kWh"),
)
"""What it is called, its metric of an image or of the whole, that of a text, and the unit."""
_TIMED = tuple(row[1] for row in _COSTS if row[1].startswith(("latency", "throughput", "dollars", "energy")))
BUSY = "on a busy machine"
"""Stands beside a time that other work was in the way of."""


def cost_rows(cost: CostResult) -> list[list[str]]:
    """What an image and a text cost, as in `COST_COLUMNS`."""
    metrics = cost.metrics
    busy = f" ({BUSY})" if cost.provenance.is_busy else ""
    return [
        [
            label + (busy if image in _TIMED else ""),
            _amount(metrics[image], unit),
            "" if text is None else _amount(metrics.get(text), unit),
        ]
        for label, image, text, unit in _COSTS
        if image in metrics
    ]


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


RESULT_COLUMNS = ("model", "task", "dataset", "split", "metric", "value", "low", "high", "n")


def results_csv(results: Iterable[EvalResult]) -> str:
    """A row for each metric of each result, in fractions; `n` is of how many queries or examples it is the mean."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(RESULT_COLUMNS)
    for result in results:
        for name, score in result.metrics.items():
            plain = name.removeprefix(CORRECTED)
            queries = result.num_captions if plain.startswith("text_to_image") else result.num_images
            whole = (result.model or "", result.task, result.dataset, result.split)
            bounds = (score.value, score.low, score.high) if isinstance(score, Interval) else (score, "", "")
            writer.writerow([*whole, name, *bounds, queries or result.num_captions])
    return output.getvalue()


def time_rows(run: RunRecord) -> list[tuple[str, float]]:
    """What took how many seconds: an epoch and a validation of each stage, then the whole with price and energy."""
    stages = {"heads_first": "the heads alone", "train": "training"}
    rows = []
    for key, seconds in run.seconds_per_epoch.items():
        stage, _, kind = key.rpartition("_")
        what = "an epoch" if kind == "train" else "a validation"
        of = stages.get(stage, stage.replace("_", " "))
        rows.append((what if key == "train_validate" else f"{what} of {of}", seconds))
    busy = f" {BUSY}" if run.provenance.is_busy else ""
    rows = [(what + busy, seconds) for what, seconds in rows]
    whole = f"the whole run{busy}"
    if run.price_dollars is not None:
        whole += f", ${run.price_dollars:.4f}"
    if run.energy_kwh is not None:
        whole += f", {run.energy_kwh:.4f} kWh"
    return [*rows, (whole, run.seconds["total"])]


def plan_rows(plan: Plan) -> list[list[str]]:
    """What a run will take, with its range where it is an estimate."""
    rate = plan.throughput
    ranged = rate.low < rate.high
    speed = f"{rate.value:,.4g}" + (f" ({rate.low:,.4g} to {rate.high:,.4g})" if ranged else "")
    rows = [
        ["samples of an epoch", f"{plan.samples_per_epoch:,}"],
        ["samples of the whole run", f"{plan.samples_seen:,}"],
        [f"samples a second, {rate.origin}" + (f" {BUSY}" if rate.beside_other_work else ""), speed],
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
