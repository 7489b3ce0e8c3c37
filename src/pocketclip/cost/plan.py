"""How long a training takes and what it costs, before it is begun: arithmetic, prices and published times."""

import functools
import json
from importlib import resources
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from pocketclip.config import Config
from pocketclip.cost.price import price_dollars
from pocketclip.errors import unknown_choice
from pocketclip.hardware import available_cores, describe_hardware
from pocketclip.records import Provenance

UTILISATION = (0.08, 0.15, 0.35)
"""Low, likely and high share of the peak that training a small image-text model reaches. Published runs: 0.11
(open_clip ViT-B/32, 773 samples a second on an A100), 0.13 (ViT-B/16, 332), 0.19 (S-SMKE, two RTX 4090)."""
Origin = Literal["given", "measured", "published", "estimated"]


class Hardware(Config):
    """A machine to plan for."""

    description: str
    dollars_per_hour: NonNegativeFloat | None
    """None where it is not rented."""
    price_source: str
    price_date: str
    peak_teraflops: PositiveFloat | None
    """Of all its devices, dense, in the number type that training uses; None where it is not known."""
    peak_source: str
    recorded_as: tuple[str, ...]
    """Parts of the hardware line of records that were measured on such a machine; none where there are no records."""

    @property
    def priced_by(self) -> str:
        """Where the price is from, and of when."""
        return f"{self.price_source}, {self.price_date}" if self.price_date else self.price_source

    def fits(self, line: str) -> bool:
        """Whether a record's hardware line is of such a machine."""
        return bool(self.recorded_as) and all(part in line for part in self.recorded_as)


class Published(Config):
    """A training whose time was published."""

    recipe: str
    hardware: str
    samples_per_epoch: PositiveInt
    num_epochs: PositiveFloat
    hours: PositiveFloat
    dollars: PositiveFloat
    source: str

    @property
    def throughput(self) -> float:
        """Samples a second over the whole run."""
        return self.samples_per_epoch * self.num_epochs / (3600 * self.hours)


class Throughput(Config):
    """Samples a second, and how it is known."""

    value: PositiveFloat
    low: PositiveFloat
    high: PositiveFloat
    origin: Origin
    source: str
    beside_other_work: bool = False
    """Measured on a busy machine: no plain fact, and too low for an idle one."""

    def beside(self, provenance: Provenance) -> "Throughput":
        """What was measured there and then: where other work was in the way, at most what all cores would give."""
        if not provenance.is_busy:
            return self
        cores, others = provenance.num_cores or available_cores(), provenance.other_load or 0.0
        high = self.high * cores / max(cores - others, 0.25 * cores)
        words = f"{self.source}, while {others:.1f} of {cores} cores were busy with other work"
        return self.model_copy(update={"high": high, "source": words, "beside_other_work": True})

    @classmethod
    def exactly(cls, value: float, origin: Origin, source: str) -> "Throughput":
        """One without a range."""
        return cls(value=value, low=value, high=value, origin=origin, source=source)


class Plan(Config):
    """What a training will take."""

    kind: Literal["plan"] = "plan"
    recipe: str
    hardware: str
    samples_per_epoch: int
    samples_source: str
    samples_seen: int
    """Steps times batch size, over all stages."""
    throughput: Throughput
    hours: float
    hours_low: float
    hours_high: float
    dollars_per_hour: float | None
    price_source: str
    dollars: float | None
    seconds: dict[str, float] = {}
    """By what they are for, where they were measured now."""
    storage_bytes: dict[str, int | None]
    """By what it is for; None where it is not known on this machine."""
    notes: list[str]
    provenance: Provenance = Field(default_factory=Provenance)


@functools.cache
def hardware_table() -> dict[str, Hardware]:
    """Machines by name, each price with its source and date (`hardware.json`), and `this` one."""
    values = json.loads((resources.files("pocketclip.cost") / "hardware.json").read_text(encoding="utf-8"))
    table = {name: Hardware.parse(entry, place=f"hardware.json: {name}") for name, entry in values.items()}
    line = describe_hardware()
    unknown = {"dollars_per_hour": None, "price_date": "", "peak_teraflops": None, "peak_source": ""}
    this = {"description": line, "recorded_as": (line,), "price_source": "not known; give --price", **unknown}
    return {**table, "this": Hardware.parse(this, place="this")}


def find_hardware(name: str) -> Hardware:
    """A machine by name, which is one of `hardware_table`."""
    table = hardware_table()
    if name not in table:
        raise unknown_choice("hardware", name, table)
    return table[name]


def published_run(recipe: str, hardware: str | None = None) -> Published | None:
    """The published training of a recipe, on a machine where one is named; None where none is known."""
    values = json.loads((resources.files("pocketclip.cost") / "published.json").read_text(encoding="utf-8"))
    runs = (Published.parse(entry, place="published.json") for entry in values)
    return next((run for run in runs if run.recipe == recipe and hardware in (None, run.hardware)), None)


def estimated_throughput(flops_per_sample: float, peak_teraflops: float) -> Throughput:
    """Samples a second from the operations of a training step, backward pass included, and a share of the peak."""
    low, value, high = (share * peak_teraflops * 1e12 / flops_per_sample for share in UTILISATION)
    source = (
        f"estimate: {flops_per_sample / 1e9:.1f} GFLOP a sample at {UTILISATION[1]:.0%} of {peak_teraflops:g} TFLOPS "
        f"({UTILISATION[0]:.0%} to {UTILISATION[2]:.0%} for the range)"
    )
    return Throughput(value=value, low=low, high=high, origin="estimated", source=source)


def hours_and_dollars(
    samples: int, throughput: Throughput, dollars_per_hour: float | None
) -> tuple[tuple[float, float, float], float | None]:
    """(likely, shortest, longest) hours of a number of samples, and the dollars of the likely ones."""
    likely, shortest, longest = (samples / rate / 3600 for rate in (throughput.value, throughput.high, throughput.low))
    dollars = None if dollars_per_hour is None else price_dollars(3600 * likely, dollars_per_hour)
    return (likely, shortest, longest), dollars


def checkpoint_bytes(num_parameters: int, num_trained: int, *, with_average: bool) -> int:
    """A checkpoint in float32: weights, two moments of Adam for the trained ones, and a running average if kept."""
    return 4 * (num_parameters * (2 if with_average else 1) + 2 * num_trained)
