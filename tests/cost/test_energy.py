"""Energy measurement with and without codecarbon."""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest

from pocketclip.cost.energy import measure_energy


def test_without_codecarbon_nothing_is_measured_and_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with measure_energy() as energy:
        pass
    assert energy.kwh is None
    assert "pip install 'pocketclip[energy]'" in energy.method


class FakeTracker:
    """Counts as codecarbon's tracker does: nothing is known before `stop`."""

    def __init__(self, **settings: object) -> None:
        self.settings = settings
        self.final_emissions_data = SimpleNamespace(energy_consumed=0.0)

    def start(self) -> None:
        self.final_emissions_data.energy_consumed = -1.0

    def stop(self) -> None:
        self.final_emissions_data.energy_consumed = 0.25


@pytest.fixture
def codecarbon(monkeypatch: pytest.MonkeyPatch) -> list[FakeTracker]:
    made: list[FakeTracker] = []

    def make(**settings: object) -> FakeTracker:
        made.append(FakeTracker(**settings))
        return made[-1]

    module = ModuleType("codecarbon")
    module.OfflineEmissionsTracker = make  # type: ignore[attr-defined]
    module.__version__ = "9.9"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "codecarbon", module)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    return made


@pytest.mark.usefixtures("codecarbon")
def test_with_codecarbon_its_energy_is_reported_at_the_end() -> None:
    with measure_energy() as energy:
        assert energy.kwh is None
    assert energy.kwh == 0.25
    assert energy.method == "codecarbon 9.9"


def test_nothing_is_written_to_disk_or_looked_up_online(codecarbon: list[FakeTracker]) -> None:
    with measure_energy():
        pass
    assert codecarbon[0].settings["save_to_file"] is False
    assert codecarbon[0].settings["country_iso_code"]  # the offline tracker asks for it instead of for the address


@pytest.mark.usefixtures("codecarbon")
def test_work_that_fails_is_still_measured() -> None:
    with pytest.raises(RuntimeError, match="stopped"), measure_energy() as energy:
        raise RuntimeError("stopped")
    assert energy.kwh == 0.25
