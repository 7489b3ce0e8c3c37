"""What a study of towers found, as a record; a row is also kept in a file of its own, by which a study goes on."""

import json
from pathlib import Path
from typing import Literal

from pocketclip.config import Config
from pocketclip.errors import UserError
from pocketclip.records import EvalResult, Provenance
from pocketclip.study.record import RecordFile
from pocketclip.study.towers.config import MeasureConfig, TowerConfig

PARTS = ("cost", "training", "score")
"""What is measured of a tower, each in a process of its own."""


class Spread(Config):
    """Milliseconds of several calls."""

    median: float
    low: float
    """The 5th percentile."""
    high: float
    """The 95th."""
    num_calls: int


class TowerCost(Config):
    """What a tower costs to hold and to run, fused, in the device's fast number type."""

    parameters: int
    parameters_fused: int
    macs: int
    """Of one image."""
    latency_ms_batch_1: Spread
    latency_ms_batch_32: Spread
    """Of the whole batch."""
    peak_memory_mib: float
    """While those were timed, libraries included."""
    resident_before_mib: float
    joules_per_1000_images: float | None
    """In batches of 32; None where nothing could be measured."""
    energy_method: str
    precision: str
    num_threads: int


class TowerTraining(Config):
    """What an epoch takes, forward and backward with AdamW in float32; reading pictures and texts are left out."""

    seconds_per_epoch: float
    step_ms: Spread
    peak_memory_mib: float
    joules_per_epoch: float | None
    num_threads: int


class TowerResult(Config):
    """One row of the table; what could not be measured is None, and `missing` says why."""

    name: str
    tower: TowerConfig
    measuring: MeasureConfig
    data: str | None
    train_data: str | None
    cost: TowerCost | None = None
    training: TowerTraining | None = None
    score: EvalResult | None = None
    missing: dict[str, str] = {}
    """Reasons, by part."""
    provenance: Provenance


class TowersRecord(RecordFile):
    """Everything a study of towers found."""

    kind: Literal["towers"] = "towers"
    measuring: MeasureConfig
    data: str | None
    train_data: str | None
    num_towers: int
    """As planned; those that are not measured yet have no row."""
    rows: list[TowerResult]


def read_towers(folder: Path) -> TowersRecord:
    """A study's record; a UserError where nothing of it is finished yet, or the record is damaged."""
    return TowersRecord.read(folder, nothing="no tower of this study is measured yet")


def read_row(path: Path) -> TowerResult | None:
    """The row that an earlier try kept; None where there is none.

    Raises:
        UserError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: the row is damaged ({error}); delete the file and resume.") from error
    return TowerResult.parse(values, place=f"{path} (delete the file and resume)")
