"""How much memory a computation needs at its peak."""

import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def peak_mib(run: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Peak memory while `run` computes.

    On Linux the kernel's high-water mark is reset first, so the peak is that of `run`; elsewhere it is that of the
    whole process so far. The process's own libraries (torch alone takes about 700 MiB) are included, and given apart
    as what was resident before.

    Returns:
        `peak_memory_mib`, `resident_before_mib`, and on a GPU `peak_gpu_memory_mib`.
    """
    before = _status("VmRSS")
    with suppress(OSError):
        _CLEAR.write_text("5")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    run()
    result = {"peak_memory_mib": round(peak_bytes() / 2**20, 1), "resident_before_mib": round(before, 1)}
    if device.type == "cuda":
        result["peak_gpu_memory_mib"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return result


def peak_bytes() -> float:
    """The most memory that this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return 2**20 * _status("VmHWM") or unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _status(key: str) -> float:
    """In MiB; 0 where the system does not tell."""
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) / 1024
    return 0.0
