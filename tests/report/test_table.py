"""Rows of tables: known values in the units they are read in."""

import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pocketclip.records import CostResult, Provenance, RunRecord
from pocketclip.report.table import COST_COLUMNS, cost_rows, time_rows

model_table = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "model_table.py"))["model_table"]
HERE = Provenance(hardware="a machine", code_version="1", date="2026-01-01", command="pocketclip")


def cost(**metrics: float | str | None) -> CostResult:
    return CostResult(name="tiny", metrics=metrics, provenance=HERE)


def run(**changes: Any) -> RunRecord:
    settings = {
        "name": "mine", "seed": 0, "recipe_hash": "ab", "num_steps": 4, "num_images": 8, "num_captions": 16,
        "seconds": {"train_train": 2.0, "total": 12.5}, "provenance": HERE, **changes,
    }  # fmt: skip
    return RunRecord.model_validate(settings)


def test_costs_come_in_their_units() -> None:
    rows = cost_rows(
        cost(
            parameters_image=3_387_004, parameters_text=22_565_376, macs_image=1_512_345_678, macs_text=0,
            latency_ms_p50_image=12.345, latency_ms_p50_text=0.04, throughput_image_per_second=1234.56,
            throughput_text_per_second=9.0, dollars_per_million_images=0.0126, dollars_per_million_texts=1234.5,
            parameters_heads=590_848, bundle_mib=98.76, energy_kwh=0.0000123, device="cpu",
        )
    )  # fmt: skip
    assert all(len(row) == len(COST_COLUMNS) for row in rows)
    assert {row[0]: row[1:] for row in rows} == {
        "parameters": ["3.39 M", "22.57 M"],
        "multiply-accumulates": ["1,512.35 M", "0.00 M"],
        "latency at batch 1, p50": ["12.3 ms", "0.0 ms"],
        "throughput at batch 32": ["1,234.6 / s", "9.0 / s"],
        "price of a million": ["$0.013", "$1,234.500"],
        "parameters of both heads": ["0.59 M", ""],
        "size on disk": ["98.8 MiB", ""],
        "energy of this measurement": ["0.000012 kWh", ""],
    }


def test_what_could_not_be_measured_says_so_and_what_was_not_tried_is_left_out() -> None:
    assert cost_rows(cost(energy_kwh=None, device="cpu")) == [["energy of this measurement", "not measured", ""]]
    assert cost_rows(cost()) == []


def test_a_runs_time_is_that_of_its_passes_and_of_the_whole() -> None:
    per_epoch = {"heads_first_train": 0.5, "low_res_train": 1.0, "train_train": 2.0, "train_validate": 0.25}
    assert time_rows(run(seconds_per_epoch=per_epoch)) == [
        ("an epoch of the heads alone", 0.5),
        ("an epoch of low res", 1.0),
        ("an epoch of training", 2.0),
        ("a validation", 0.25),
        ("the whole run", 12.5),
    ]


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({"price_dollars": 0.00123}, "the whole run, $0.0012"),
        ({"energy_kwh": 0.5}, "the whole run, 0.5000 kWh"),
        ({"price_dollars": 2, "energy_kwh": 0}, "the whole run, $2.0000, 0.0000 kWh"),
    ],
)
def test_price_and_energy_stand_with_the_whole(changes: dict[str, float], label: str) -> None:
    assert time_rows(run(**changes)) == [(label, 12.5)]


def measured(seconds: float, again: float | None = None, changes: Sequence[str] = ()) -> dict[str, Any]:
    score = {"value": 0.25, "low": 0.2, "high": 0.3}
    return {
        "recipe": "flickr/mine",
        "changes": changes,
        "runs": [{"text_to_image_recall@1": score, "image_to_text_recall@1": {**score, "value": 0.3}}, {}],
        "cost": {
            "parameters_image": 3.4e6, "parameters_text": 22.6e6, "latency_ms_p50_image": 7.04,
            "latency_ms_p50_text": 3.96,
        },
        "wall_seconds_median": seconds,
        "wall_seconds_cache_filled_median": again,
    }  # fmt: skip


def test_the_readmes_table_has_a_row_a_recipe() -> None:
    changed, other = measured(900, changes=["seed=1"]), {**measured(900), "recipe": "flickr/other"}
    lines = model_table([measured(83.6, 12.4), changed, other]).splitlines()
    assert lines[2] == (
        "| `flickr/mine` | 25.0 [20.0, 30.0] | 30.0 [20.0, 30.0] | 3.4 + 22.6 M | 7.0 + 4.0 ms | 84 s, again 12 s |"
    )
    assert lines[3].startswith("| `flickr/other` |")
    assert lines[3].endswith("| 15 min |")
    assert len(lines) == 4, "a recipe that was changed has no row"
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (59.6, "60 s"),
        (299, "299 s"),
        (300, "5 min"),
        (359, "6 min"),
    ],
)
def test_times_are_rounded_to_the_nearest(seconds: float, shown: str) -> None:
    assert model_table([measured(seconds)]).endswith(f"| {shown} |")


def test_times_beside_other_work_are_no_plain_facts() -> None:
    busy = HERE.model_copy(update={"other_load": 1.0, "num_cores": 2})
    found = cost(
        parameters_image=1, latency_ms_p50_image=1.0, throughput_image_per_second=2.0, bundle_mib=1.0, energy_kwh=1.0
    )
    labels = [row[0] for row in cost_rows(found.model_copy(update={"provenance": busy}))]
    assert labels == [
        "parameters",
        "latency at batch 1, p50 (on a busy machine)",
        "throughput at batch 32 (on a busy machine)",
        "size on disk",
        "energy of this measurement (on a busy machine)",
    ]
    rows = time_rows(run(seconds_per_epoch={"train_train": 2.0}, provenance=busy))
    assert rows[-2:] == [("an epoch of training on a busy machine", 2.0), ("the whole run on a busy machine", 12.5)]
