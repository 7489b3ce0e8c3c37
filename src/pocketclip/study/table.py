"""Rows of tables from records, for the terminal, the report and documents alike."""

from collections.abc import Mapping, Sequence
from typing import Any

from pocketclip.records import CostResult, EvalResult, Interval, RunRecord

RETRIEVAL_COLUMNS = ("", "R@1", "R@5", "R@10", "median\nrank")
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


def retrieval_rows(result: EvalResult) -> list[list[str]]:
    """Recalls in percent with 95 % intervals, one row a direction, as in `RETRIEVAL_COLUMNS`."""
    rows = []
    for direction, label in (("text_to_image", "text → image"), ("image_to_text", "image → text")):
        cells = [_percent(result.metrics[f"{direction}_recall@{k}"]) for k in (1, 5, 10)]
        rank = result.metrics[f"{direction}_median_rank"]
        rows.append([label, *cells, f"{rank:g}" if isinstance(rank, float) else ""])
    return rows


def cost_rows(cost: CostResult) -> list[list[str]]:
    """What an image and a text cost, as in `COST_COLUMNS`."""
    metrics = cost.metrics
    rows = []
    for label, image, text, unit in _COSTS:
        if image in metrics:
            rows.append([label, _amount(metrics[image], unit), _amount(metrics[text], unit)])
    for label, key, unit in _TOTALS:
        if key in metrics:
            rows.append([label, _amount(metrics[key], unit), ""])
    return rows


def _percent(value: Interval | float) -> str:
    return value.percent() if isinstance(value, Interval) else f"{100 * value:.1f}"


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
