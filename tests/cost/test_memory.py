"""Peak memory of a computation whose size is known."""

import mmap
import sys

import numpy as np
import pytest
import torch

from pocketclip.cost import memory
from pocketclip.cost.memory import peak_mib

CPU = torch.device("cpu")
needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def resident() -> float:
    return peak_mib(lambda: None, CPU)["resident_before_mib"]


def allocate(mib: int) -> mmap.mmap:
    """Touched memory straight from the kernel: `malloc` may hand out what it kept."""
    block = mmap.mmap(-1, mib << 20)
    np.frombuffer(block, np.uint8)[:] = 1
    return block


@needs_proc
def test_a_known_allocation_is_seen() -> None:
    result = peak_mib(lambda: allocate(200), CPU)
    assert 190 < result["peak_memory_mib"] - result["resident_before_mib"] < 260


@needs_proc
def test_an_earlier_peak_is_forgotten() -> None:
    allocate(300)
    result = peak_mib(lambda: allocate(50), CPU)
    if not memory._CLEAR.exists():
        pytest.skip("this kernel cannot forget a peak")
    assert result["peak_memory_mib"] - result["resident_before_mib"] < 150


@needs_proc
def test_resident_memory_is_that_of_the_process() -> None:
    before = resident()
    held = allocate(100)
    assert 90 < resident() - before < 130
    del held


def test_a_system_without_proc_gives_the_peak_of_the_whole_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_status", lambda key: 0.0)
    result = peak_mib(lambda: None, CPU)
    assert result["resident_before_mib"] == 0
    assert result["peak_memory_mib"] > 50  # Python with torch


def test_what_runs_is_run_once() -> None:
    calls: list[int] = []
    peak_mib(lambda: calls.append(1), CPU)
    assert calls == [1]
