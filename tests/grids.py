"""A grid's record without any training: errors by a law of data and compute, with the noise of pictures and seeds."""

import json
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

from example_pages import HERE
from pocketclip.evaluate.intervals import seed_half_width
from pocketclip.evaluate.tasks.retrieval import RECALLS
from pocketclip.records import Interval
from pocketclip.study.names import slug
from pocketclip.study.record import RECORD, Measure, RowResult, SeedResult, StudyRecord

ARCHITECTURES = {
    "ViT-S/32": (6.4e6, 0.9e9, 5.1), "MobileNet-v3": (9.8e6, 0.5e9, 7.9),
    "ViT-S/16": (22.1e6, 4.6e9, 13.6), "ResNet-50": (25.6e6, 8.2e9, 24.2),
}  # fmt: skip
"""Parameters, MACs of a sample, latency."""
DATA = {"1,500": 1500, "3,000": 3000, "6,000": 6000}
QUALITIES = {"all": 0.0, "top 60 %": 0.02}
STRATEGIES = {"CLIP": (0.0, 1.0), "CLIP + augmentation": (0.015, 1.0), "FLIP": (-0.002, 0.6), "SLIP": (-0.03, 2.6)}
"""What each brings, and its cost in CLIP's."""
SEED_SPREAD, UNIT_HALF = 0.004, 0.012


def grid_record(
    *, seeds: Sequence[int] = (0, 1), budgets: Sequence[float] = (), seed: int = 0, dropped: bool = True,
    data: dict[str, int] = DATA,
) -> StudyRecord:  # fmt: skip
    """Four architectures, three sizes of data, two qualities, four strategies; each again with each of the `budgets`,
    in samples, where there are any."""
    noise = np.random.default_rng(seed)
    axes = {
        "architecture": list(ARCHITECTURES), "data": list(data), "quality": list(QUALITIES),
        "strategy": list(STRATEGIES),
        **({"budget": [f"{count:g} samples" for count in budgets]} if budgets else {}),
    }  # fmt: skip
    rows: list[RowResult] = []
    for number, levels in enumerate(product(*axes.values())):
        place = dict(zip(axes, levels, strict=True))
        parameters, macs, latency = ARCHITECTURES[place["architecture"]]
        gain, factor = STRATEGIES[place["strategy"]]
        samples = int(budgets[axes["budget"].index(place["budget"])]) if budgets else 96_000
        error = 0.12 + 0.55 * (samples * macs * factor / 1e14) ** -0.07 * (data[place["data"]] / 1500) ** -0.12
        score = 1 - error + gain + QUALITIES[place["quality"]]
        found = [score + SEED_SPREAD * noise.standard_normal() for _ in seeds]
        why = None
        if dropped and place["architecture"] == "ResNet-50" and place["strategy"] == "SLIP":
            why = f"does not fit: {3 * macs / 1e9:.0f} GMACs a sample leave 12 steps of 64 in the budget"
        elif dropped and number == 9:
            why = "diverged: the loss was not finite at step 31"
        rows.append(cell(place, [] if why else found, rows[0] if rows else None, seeds).model_copy(update={
            "samples_seen": samples, "parameters": {"parameters_image": int(parameters * 0.6), "parameters_total":
            int(parameters)}, "macs_per_sample": macs * factor, "latency_ms": latency, "dropped": why,
        }))  # fmt: skip
    finished = sum(len(row.runs) for row in rows)
    failed = {f"{rows[3].name}, seed 1": "its process ended with code -9; code -9 is often a machine out of memory"}
    return StudyRecord(
        name="grid", changes=["train.num_workers=1", "seeds=[0,1]"], dataset="x", num_images=1000, num_captions=5000,
        seeds=list(seeds), intervals="95 %: of images.", dollars_per_hour=None, num_jobs=1,
        num_runs=len(rows) * len(seeds), num_finished=finished, failed=failed if dropped else {}, notes=[],
        rows=rows, axes=axes, provenance=HERE,
    )  # fmt: skip


def write_grid(folder: Path, record: StudyRecord) -> Path:
    """A study's folder with nothing but its record."""
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps(record.to_json()), encoding="utf-8")
    return folder


def doubtful(values: Sequence[float], unit_half: float) -> Interval:
    """A mean over seeds with the doubts of pictures and seeds."""
    mean, half = float(np.mean(values)), math.hypot(unit_half, seed_half_width(values))
    return Interval(value=mean, low=mean - half, high=mean + half)


def cell(place: dict[str, str], scores: list[float], first: RowResult | None, seeds: Sequence[int]) -> RowResult:
    """A row of a grid with its scores by seed."""
    metrics = {}
    if scores:
        gains = [own - run.metrics[RECALLS[0]] for own, run in zip(scores, first.runs, strict=True)] if first else []
        difference = doubtful(gains, UNIT_HALF / 2) if gains else None
        measure = Measure(mean=doubtful(scores, UNIT_HALF), difference=difference)
        metrics = dict.fromkeys(RECALLS, measure)
    return RowResult(
        name=", ".join(place.values()), folder=slug(" ".join(place.values()).replace("/", "-")),
        recipe="flickr/flickr8k_finetune_cpu",
        set={"model.image_encoder.name": place.get("architecture"), "train.augment": {"flip": True}}, samples_seen=1,
        metrics=metrics, parameters={}, minutes=3.5 if scores else None, dollars=None, levels=place,
        runs=[
            SeedResult(
                seed=seed, metrics=dict.fromkeys(RECALLS, score), num_steps=10, seconds=210.0, recipe_hash="ab",
                **HERE.model_dump(include={"hardware", "code_version", "date"}),
            )
            for seed, score in zip(seeds, scores, strict=False)
        ],
    )  # fmt: skip
