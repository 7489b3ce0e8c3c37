"""One record format: every number carries what, on how many, how sure, and where it was measured."""

import datetime
import functools
import importlib.metadata
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pocketclip.config import Config, kinds_of
from pocketclip.errors import UserError
from pocketclip.files import write_atomically
from pocketclip.hardware import Load, available_cores, describe_hardware, is_busy


class Interval(Config):
    """A value with its 95 % interval, in the value's own unit."""

    value: float
    low: float
    high: float

    def percent(self) -> str:
        """`18.6 [17.4, 19.8]`, for tables; recalls and accuracies are fractions in JSON."""
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def percent(value: Interval | float) -> str:
    """A fraction in percent, with its interval where it has one."""
    return value.percent() if isinstance(value, Interval) else f"{100 * value:.1f}"


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@functools.cache
def code_version() -> str:
    """The package version, with the commit where the package runs from a git checkout."""
    version = importlib.metadata.version("pocketclip")
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return version
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return version
    return f"{version}+{result.stdout.strip()}"


class Provenance(Config):
    """Where a number comes from."""

    hardware: str = Field(default_factory=describe_hardware)
    code_version: str = Field(default_factory=code_version)
    date: str = Field(default_factory=now)
    command: str = Field(default_factory=lambda: shlex.join(["pocketclip", *sys.argv[1:]]))
    other_load: float | None = None  # cores that other work kept busy meanwhile; None where nobody looked or can know
    num_cores: int | None = None  # of which these are

    @classmethod
    def under(cls, load: Load) -> "Provenance":
        """Of a figure that depends on what else the machine did since `load` began."""
        return cls(other_load=load.average(), num_cores=available_cores())

    @property
    def is_busy(self) -> bool:
        """Whether a time or a speed is no plain fact, since other work was in its way."""
        return is_busy(self.other_load, self.num_cores)

    @property
    def machine(self) -> str:
        """The hardware, and how busy it was."""
        if not self.is_busy:
            return self.hardware
        busy = f"measured while {self.other_load:.1f} of {self.num_cores} cores were busy with other work"
        return f"{self.hardware}, {busy}"


class Result(Config):
    """Metrics of something, with what was noticed and where they come from."""

    metrics: Mapping[str, Any]
    notes: list[str] = []
    provenance: Provenance = Field(default_factory=Provenance)

    def to_json(self) -> dict[str, Any]:
        """One flat JSON object, metrics at its top level."""
        values = self.model_dump(mode="json")
        metrics = values.pop("metrics")
        return {"kind": values["kind"], **values, **metrics}


class Protocol(Config):
    """What a model was asked in words, so that two scores can be told to answer the same question."""

    name: str
    """Of a published protocol, or `own`."""
    class_names: str
    """Where the names of the classes are from."""
    num_classes: int
    """That a model chooses among."""
    templates: str
    """Name or file of the sentences that a class's name was put into."""
    num_templates: int
    hash: str
    """Of all names and templates, in their order."""


class ClassScore(Config):
    """How one class fared."""

    name: str
    num_images: int
    top1_accuracy: float | None = None
    """None where no image is of this class."""
    answers: list[tuple[int, int]] = []
    """What was answered of its images, the commonest first: the number of a class, and of how many images."""


class GroupScore(Config):
    """How one group of images fared, such as those of a region."""

    name: str
    num_images: int
    top1_accuracy: float | None = None
    """None where no image is of this group."""
    top5_accuracy: float | None = None
    """None among five classes or fewer, too."""
    counts: bool = True
    """Whether it may be the worst group."""


_OF_SOME = ("model", "settings", "protocol", "classes", "groups")
"""What a record leaves out where it is empty."""


class EvalResult(Result):
    """The outcome of one task on one split."""

    kind: Literal["evaluation"] = "evaluation"
    task: str
    dataset: str
    split: str
    num_images: int
    num_captions: int
    metrics: dict[str, Interval | float]
    model: str | None = None  # as it was asked for; None of a run's own records, which say whose they are
    seed: int | None = None  # of the training run; None for a model of unknown origin
    recipe_hash: str | None = None
    settings: dict[str, Any] = {}
    """Of the task."""
    protocol: Protocol | None = None
    """Of a task that asks in words."""
    classes: list[ClassScore] = []
    """Of a task that tells classes apart, where their number allows it."""
    groups: list[GroupScore] = []
    """Of a task that was asked for scores group by group."""

    def to_json(self) -> dict[str, Any]:
        """One flat JSON object, without what only some tasks have and this one has not."""
        values = super().to_json()
        return {key: value for key, value in values.items() if key not in _OF_SOME or value}


class CostResult(Result):
    """What a model costs to hold and to run; see `pocketclip.cost` for each number's definition."""

    kind: Literal["cost"] = "cost"
    name: str
    metrics: dict[str, float | int | str | None]


class Trunk(Config):
    """The run that another one branched from, and what it had done by then."""

    run: str
    recipe_hash: str
    step: int
    num_samples: int
    seconds: float  # of its last stage

    @property
    def told(self) -> str:
        """In a sentence."""
        return (
            f"branched from {self.run} at step {self.step:,}; its {self.num_samples:,} samples and seconds are counted"
        )


class RunRecord(Config):
    """What one training run did and took."""

    kind: Literal["run"] = "run"
    name: str
    seed: int
    recipe_hash: str
    num_steps: int
    branched_from: Trunk | None = Field(default=None, exclude_if=lambda value: value is None)
    """Its steps and seconds are among those here: what this model would have taken alone."""
    num_images: int
    num_captions: int | None
    broken_items: list[str] = []
    notes: list[str] = []  # what a careful reader has to know of the data
    left_out: list[str] = []
    """What the readers of the data saw and passed over."""
    seconds: dict[str, float]  # wall time of each phase; of `total`, `caches` went into what other runs find there
    seconds_per_epoch: dict[str, float] = {}  # a pass over the training data, and one validation, of each stage
    metrics: dict[str, float] = {}
    energy_kwh: float | None = None  # of this process; None where it was not measured
    budget: dict[str, float] | None = None  # what the run was allowed, such as minutes; None where steps ended it
    spent: dict[str, float] = {}  # of it: macs of all samples, seconds, device_hours, and dollars and joules if known
    macs_per_sample: float | None = None  # of the last stage, forward and backward; cached towers are none of it
    price_dollars: float | None = None  # of the total seconds; None where no price per hour was given
    provenance: Provenance = Field(default_factory=Provenance)

    def to_json(self) -> dict[str, Any]:
        """One JSON object."""
        return self.model_dump(mode="json")


Record = EvalResult | CostResult | RunRecord


def record_of(values: Any, *, place: str) -> Record:
    """A record from its JSON object; a UserError that names its `place` where it is none."""
    try:
        kind: type[Record] = kinds_of(Record)[values["kind"]]
    except (KeyError, TypeError) as error:
        raise UserError(f"{place}: not a pocketclip record ({error!r}).") from error
    if kind is not RunRecord:
        known = kind.model_fields
        own = {key: value for key, value in values.items() if key in known}
        values = {**own, "metrics": {key: value for key, value in values.items() if key not in known}}
    record: Record = kind.parse(values, place=place)
    return record


def read_record(path: Path) -> Record:
    """The record in a file; a UserError where it is none."""
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path}: not a pocketclip record ({error!r}).") from error
    return record_of(values, place=str(path))


def read_records(folder: Path) -> list[Record]:
    """Every record below `folder/records`, in the order of their file names."""
    return [read_record(path) for path in sorted((folder / "records").glob("*.json"))]


def write_record(record: Record, folder: Path, name: str) -> Path:
    """Write `folder/records/NAME.json`."""
    path = folder / "records" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(record.to_json(), indent=2) + "\n")
    return path
