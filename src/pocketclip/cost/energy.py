"""Energy of a stretch of work, through codecarbon where it is installed."""

import importlib.util
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pocketclip.errors import pip_install, require


@dataclass
class Energy:
    """Filled when the stretch ends; None where nothing could be measured."""

    kwh: float | None = None
    method: str = field(default_factory=lambda: f"not measured ({pip_install('[energy]')})")
    kwh_so_far: Callable[[], float] | None = None
    _started: float = 0.0

    def watts(self) -> float | None:
        """Drawn on average until now; None where nothing could be measured."""
        if self.kwh_so_far is None:
            return None
        return 3.6e6 * self.kwh_so_far() / max(time.perf_counter() - self._started, 1e-3)


@contextmanager
def measure_energy(wanted: bool = True) -> Iterator[Energy]:
    """Measure the energy of what happens inside, in kWh, where that is wanted.

    codecarbon reads the processor's own counters where it may, and else multiplies time with the processor's design
    power. Nothing is sent anywhere, and no country's grid is looked up: kWh only, no CO2.
    """
    energy = Energy()
    if not wanted or importlib.util.find_spec("codecarbon") is None:
        yield energy
        return
    codecarbon = require("codecarbon", extra="energy")
    tracker = codecarbon.OfflineEmissionsTracker(
        country_iso_code="DEU", save_to_file=False, log_level=logging.ERROR, allow_multiple_runs=True
    )
    tracker.start()

    def kwh_so_far() -> float:
        tracker.flush()  # takes a measurement
        return float(tracker._total_energy.kWh)

    energy.kwh_so_far, energy._started = kwh_so_far, time.perf_counter()
    try:
        yield energy
    finally:
        tracker.stop()
        data = tracker.final_emissions_data
        energy.kwh = float(data.energy_consumed)
        energy.method = f"codecarbon {codecarbon.__version__}"
