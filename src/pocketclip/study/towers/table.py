"""The table of a study of towers, for the terminal and in Markdown, and what its numbers are."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pocketclip.image_size import written
from pocketclip.records import Interval
from pocketclip.report.table import BUSY
from pocketclip.study.towers.record import Spread, TowerResult, TowersRecord

SCORE = "top1_accuracy_embedding"
COLUMNS = (
    *("tower", "px", "parameters, M", "MACs, G", "batch 1, ms", "batch 32, ms", "memory, MiB"),
    *("an epoch, s", "energy, J", "top-1, %"),
)
PART_NAMES: Mapping[str, str] = {"cost": "costs", "training": "training time", "score": "score"}


class Amount(NamedTuple):
    """A cost in pictures."""

    label: str
    values: Mapping[str, float]
    """By the tower's name, of those that have it."""


def amounts(record: TowersRecord) -> list[Amount]:
    """What accuracy can be set against, the most telling first."""
    costs = {row.name: row.cost for row in record.rows if row.cost is not None}
    return [
        Amount(
            "milliseconds an image, batch 1", {name: own.latency_ms_batch_1.median for name, own in costs.items()}
        ),
        Amount(
            "milliseconds of 32 images", {name: own.latency_ms_batch_32.median for name, own in costs.items()}
        ),
        Amount("MACs an image", {name: float(own.macs) for name, own in costs.items()}),
        Amount(
            "seconds of a training epoch",
            {row.name: row.training.seconds_per_epoch for row in record.rows if row.training is not None},
        ),
    ]  # fmt: skip


def ordered(record: TowersRecord) -> list[TowerResult]:
    """The fastest first; those without costs last."""
    return sorted(record.rows, key=lambda row: row.cost.latency_ms_batch_1.median if row.cost else float("inf"))


def score_of(row: TowerResult) -> Interval | None:
    """The probe's accuracy."""
    score = None if row.score is None else row.score.metrics.get(SCORE)
    return score if isinstance(score, Interval) else None


def tower_rows(record: TowersRecord) -> list[list[str]]:
    """One row a tower, as in `COLUMNS`; spreads and intervals in a second line, empty where nothing was measured."""
    return [_cells(row) for row in ordered(record)]


def _cells(row: TowerResult) -> list[str]:
    cost, training, score = row.cost, row.training, score_of(row)
    name = f"{row.name}, {BUSY}" if row.provenance.is_busy else row.name
    costs = [""] * 5
    if cost is not None:
        costs = [
            *(f"{cost.parameters_fused / 1e6:.1f}", f"{cost.macs / 1e9:.2f}"),
            *(_spread(cost.latency_ms_batch_1), _spread(cost.latency_ms_batch_32), f"{cost.peak_memory_mib:,.0f}"),
        ]
    joules = None if cost is None else cost.joules_per_1000_images
    return [
        *(name, written(row.tower.image_size), *costs),
        "" if training is None else f"{training.seconds_per_epoch:,.0f}",
        "" if joules is None else f"{joules:,.0f}",
        "" if score is None else score.percent().replace(" [", "\n["),
    ]


def _spread(spread: Spread) -> str:
    digits = 0 if spread.median >= 100 else 1
    median, low, high = (f"{value:,.{digits}f}" for value in (spread.median, spread.low, spread.high))
    return f"{median}\n[{low}, {high}]" if low != high else median


def towers_markdown(record: TowersRecord) -> str:
    """The table in Markdown with what its numbers mean."""
    lines = [f"# {record.name}", "", f"    {record.provenance.command}", ""]
    lines += [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for cells in tower_rows(record):
        shown = [cell.replace("|", "/").replace("\n", " ") for cell in cells]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join([*lines, "", *(f"- {note}" for note in tower_notes(record)), ""])


def tower_notes(record: TowersRecord) -> list[str]:
    """What the numbers are, one sentence a line, then what is missing and why."""
    measuring, costs = record.measuring, [row.cost for row in record.rows if row.cost is not None]
    machines = _listed(row.provenance.hardware for row in record.rows)
    lines = [f"Each tower alone, in a process of its own, on {machines}."]
    if busy := [row.name for row in record.rows if row.provenance.is_busy]:
        lines.append(f"Measured while other work was in the way, so no plain facts: {', '.join(busy)}.")
    if costs:
        threads, precisions = _listed(str(own.num_threads) for own in costs), _listed(own.precision for own in costs)
        lines += [
            f"Parameters, MACs and times are of the tower as inference runs it: fused, in {precisions}, threads: "
            f"{threads}. Its weights do not matter to them.",
            "Times are the median of calls [5th to 95th percentile], of one image and of a batch of 32; memory is the "
            "process's peak meanwhile, libraries included.",
            _on_energy(costs[0].joules_per_1000_images is not None, costs[0].energy_method),
        ]
    if any(row.training is not None for row in record.rows):
        lines.append(
            f"An epoch is {measuring.epoch_images:,} images in batches of {measuring.training_batch_size}, forward and "
            f"backward with AdamW in float32, from the median of {measuring.training_steps} steps; reading pictures "
            "and the text tower are left out."
        )
    lines += _on_scores(record)
    if len(record.rows) < record.num_towers:
        lines.append(f"{len(record.rows)} of {record.num_towers} towers are measured.")
    return [*lines, *missing(record)]


def _on_energy(measured: bool, method: str) -> str:
    return f"Energy is of 1,000 images in batches of 32, by {method}." if measured else f"Energy is {method}."


def _on_scores(record: TowersRecord) -> list[str]:
    if record.data is None:
        return ["Without scores: --set data=KIND:PLACE names images with classes to score towers on."]
    scores = [row.score for row in record.rows if row.score is not None]
    if not scores:
        return []
    learned = f"learned on {record.train_data}" if record.train_data else "learned on four fifths of them"
    notes = dict.fromkeys(note for score in scores for note in score.notes)
    return [
        f"Top-1 is a linear probe's accuracy [95 % interval] on {scores[0].num_images:,} images of {record.data}, "
        f"{learned}, on features of the tower with its pretrained weights.",
        *(f"Note: {note}." for note in notes),
    ]


def missing(record: TowersRecord) -> list[str]:
    """What could not be measured, a line a reason."""
    towers: dict[tuple[str, str], list[str]] = {}
    for row in record.rows:
        for part, why in row.missing.items():
            towers.setdefault((part, why), []).append(row.name)
    return [f"No {PART_NAMES[part]} of {', '.join(names)}: {why}." for (part, why), names in towers.items()]


def _listed(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values)))
