"""Rows of tables from records, for the terminal, the report and documents alike."""

from pocketclip.records import CostResult, EvalResult, Interval

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
