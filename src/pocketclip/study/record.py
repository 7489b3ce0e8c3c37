"""What a study found, as a record."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import yaml

from pocketclip.config import Config
from pocketclip.errors import UserError
from pocketclip.files import holds_only, write_atomically
from pocketclip.records import Interval, Provenance

RECORD, SETTINGS = "study.json", "study.yaml"
"""In a study's folder: what it found so far, and what it was asked to do."""


NUM_DRAWS, DRAW_UNIT = 128, 1e-5


class SeedResult(Config):
    """One run of a row."""

    seed: int
    metrics: dict[str, float]
    num_steps: int
    seconds: float
    """All, those for the caches among them."""
    seconds_caches: float = 0.0
    """Of these, what went into caches that other runs found filled."""
    recipe_hash: str
    hardware: str
    code_version: str
    date: str


class Measure(Config):
    """A metric of a row: the mean over its seeds, and how far it is from the first row's."""

    mean: Interval
    difference: Interval | None = None
    """None for the first row itself, and where the two have no seed in common, or nothing tells the spread."""


class RowResult(Config):
    """One row of the table; `metrics` are empty before its first run is finished."""

    name: str
    folder: str
    recipe: str
    set: dict[str, Any]
    samples_seen: int
    """Steps times batch size, as planned."""
    metrics: dict[str, Measure]
    parameters: dict[str, int]
    minutes: float | None
    """Of a run, mean over seeds, those for the caches among them."""
    dollars: float | None
    """Of a run at the study's price; None where none was given."""
    minutes_own: float | None = None
    """Of a run, mean over seeds, without those for the caches; None in records of earlier versions."""
    minutes_caches: float | None = None
    """Of all of the row's runs: what they put into caches that other runs found filled, and paid for once."""
    dollars_own: float | None = None
    dollars_caches: float | None = None
    levels: dict[str, str] = {}
    """Where a cell stands on each axis; empty of a row that was written out."""
    macs_per_sample: float | None = None
    """Multiply-accumulates of a training sample, forward and backward, as accounted; None where that is not known."""
    latency_ms: float | None = None
    """Of one picture and one sentence at batch 1, the median; None where it was not measured."""
    draws: str = ""
    """How far the study's main score is from its mean in each of the first `NUM_DRAWS` resamplings of the pictures, the
    same of all rows, in units of `DRAW_UNIT`: so the page pairs rows picture by picture. Empty where rows are not."""
    dropped: str | None = None
    """Why nothing, or no more, was trained: does not fit, diverged, died, or stopped early."""
    runs: list[SeedResult]


class RecordFile(Config):
    """What every study's record has."""

    kind: str
    name: str
    changes: list[str]
    provenance: Provenance

    def to_json(self) -> dict[str, Any]:
        """One JSON object, with what every record of `results/` has at its top."""
        values = self.model_dump(mode="json")
        provenance = values.pop("provenance")
        return {"kind": values["kind"], "name": values["name"], **provenance, **values}

    def write(self, folder: Path) -> None:
        """Put it into the study's folder."""
        write_atomically(folder / RECORD, json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, folder: Path, *, nothing: str) -> Self:
        """The record of a folder; a UserError where it is damaged, or there is `nothing` yet."""
        path = folder / RECORD
        if not path.is_file():
            raise UserError(f"{folder}: {nothing}; `pocketclip study` with --resume goes on.")
        try:
            values = dict(json.loads(path.read_text(encoding="utf-8")))
            values["provenance"] = {key: values.pop(key) for key in Provenance.model_fields if key in values}
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: not a study's record ({error!r}).") from error
        return cls.parse(values, place=str(path))


class StudyRecord(RecordFile):
    """Everything a study found."""

    kind: Literal["study"] = "study"
    split: Literal["val"] = "val"
    task: str = ""
    """What the rows are measured by; empty in records of earlier versions."""
    dataset: str
    num_images: int
    num_captions: int
    seeds: list[int]
    intervals: str
    """What they are, in a sentence; see `meaning`."""
    dollars_per_hour: float | None
    num_jobs: int
    """Runs at a time; times of runs that shared a machine are longer."""
    num_runs: int
    num_finished: int
    failed: dict[str, str]
    """What went wrong, by run."""
    notes: list[str]
    axes: dict[str, list[str]] = {}
    """Levels of each axis, of a grid."""
    rows: list[RowResult]


def is_study(folder: Path) -> bool:
    """Whether a folder is one of a study, finished or not."""
    return (folder / RECORD).is_file() or (folder / SETTINGS).is_file()


def is_tower_study(folder: Path) -> bool:
    """Whether a folder is one of a study of towers, finished or not; a study of recipes has the same files."""
    read: tuple[tuple[str, Callable[[str], Any], str], ...]
    read = (SETTINGS, yaml.safe_load, "towers"), (RECORD, json.loads, "measuring")
    for name, parse, key in read:
        try:
            values = parse((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if isinstance(values, dict):
            return key in values
    return False


def read_study(folder: Path) -> StudyRecord:
    """A study's record; a UserError where no run of it is finished yet, or the record is damaged."""
    return StudyRecord.read(folder, nothing="a study of which no run is finished yet")


def make_folder(folder: Path, settings: str, *, towers: bool, goes_on: bool) -> None:
    """Make a study's folder and put its settings there, unless it holds another kind of study, or this one unasked.

    Raises:
        UserError: what it holds, or why it cannot be made.
    """
    mark = folder / SETTINGS
    if mark.is_file() and is_tower_study(folder) is not towers:
        raise UserError(f"{folder}: holds a study of {'recipes' if towers else 'towers'}; choose another --out.")
    if mark.is_file() and not goes_on:
        raise UserError(f"{folder}: holds a study already. Go on with --resume, choose another --out, or delete it.")
    if not mark.is_file() and folder.is_dir() and not holds_only(folder):
        raise UserError(f"{folder}: is not empty and holds no study; choose another --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); choose another --out.") from error
    write_atomically(mark, settings)
