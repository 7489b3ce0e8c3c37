"""What machine this is: the line every record carries, what its processor is good at, and what else it is doing."""

import ctypes
import functools
import os
import platform
import sys
import time
from pathlib import Path
from typing import NamedTuple


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Instruction sets of this processor as Linux names them; empty on other systems."""
    return frozenset(_cpu_info("flags").split())


def _cpu_info(key: str) -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


@functools.cache  # asked in every step of training
def has_fast_bfloat16() -> bool:
    """Whether bfloat16 is faster here than float32: with AMX, and with AVX-512 BF16 unless the processor is Intel's.

    Intel's multiplies float32 on two ports and bfloat16 on one. Without AMX, which virtual machines often hide, a text
    tower trained there at 0.66 times its speed in float32, on AMD's at 2.4 times (benchmarks/training_precision.py).
    """
    return "amx_bf16" in cpu_flags() or ("avx512_bf16" in cpu_flags() and _cpu_info("vendor_id") != "GenuineIntel")


def available_cores() -> int:
    """Cores this process may use, which containers often limit below the machine's."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count() or 1


@functools.cache
def describe_hardware() -> str:
    """One line such as `AMD EPYC, 2 cores, avx512_bf16, Linux`, with the GPU's name where torch sees one."""
    name = _cpu_info("model name") or platform.processor() or platform.machine()
    best = next((flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in cpu_flags()), "")
    parts = [name, f"{available_cores()} cores", best, platform.system()]
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(part for part in parts if part)


def process_began() -> float:
    """When this process was started, by `time.perf_counter`; where the system does not tell, now."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):  # not Linux, or a /proc of another make
        age = 0.0
    return time.perf_counter() - max(age, 0.0)


def keep_freed_memory() -> bool:
    """Tell glibc to reuse freed memory instead of handing it back to the kernel and faulting it in again.

    Large activations are otherwise mapped and unmapped at every layer. Measured with EfficientNet-Lite0 at 160 px
    on two cores: twice the images per second (benchmarks/memory_reuse.py). The price is a resident size that stays
    near its peak. Returns whether it took effect, which it does with glibc alone.
    """
    if (libc := _glibc()) is None:
        return False
    mmap_max, trim_threshold, top_pad = -4, -1, -2  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD of malloc.h
    settings = ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 64 << 20))
    return all(libc.mallopt(name, value) == 1 for name, value in settings)


def return_freed_memory() -> None:
    """Hand back to the kernel what `keep_freed_memory` kept, when work of another kind begins; without glibc nothing.

    Processes that are forked from this one copy what it then writes over, so memory that nobody uses would count twice.
    """
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    is_here = platform.system() == "Linux" and platform.libc_ver()[0] == "glibc"
    return ctypes.CDLL("libc.so.6") if is_here else None


BUSY_SHARE = 0.1
"""Of the cores: other work below it changes no figure that one would notice."""
MIN_WINDOW_SECONDS = 0.2
"""The kernel counts in hundredths of a second; less than this many of them tell little."""
MAX_WINDOW_SECONDS = 5.0
"""What was longer ago says nothing about the moment."""


class Load:
    """How many cores' worth of other work there is.

    On Linux it is what the cores that this process may use did, without what this process and its children did (of
    all ranks, where torchrun started several). Elsewhere it is the system's load average, a minute behind, and on
    Windows nothing is known.
    """

    def __init__(self) -> None:
        self._first = self._last = _work_so_far()
        self._newest: float | None = None
        self._next_look = 0.0

    def average(self) -> float | None:
        """Since the beginning."""
        time.sleep(max(0.0, self._first.time + MIN_WINDOW_SECONDS - time.monotonic()))
        return _others(self._first, _work_so_far())

    def look(self) -> float | None:
        """At the moment, of which some hundredths of a second up to some seconds are looked at."""
        if time.monotonic() - self._last.time > MAX_WINDOW_SECONDS:
            self._last = _work_so_far()
        time.sleep(max(0.0, self._last.time + MIN_WINDOW_SECONDS - time.monotonic()))
        before, self._last = self._last, _work_so_far()
        self._newest = _others(before, self._last)
        return self._newest

    def glance(self) -> float | None:
        """As `look`, but without waiting, at most once a second and in a hundredth of the time at most.

        None before anything is known.
        """
        started = time.monotonic()
        if started >= max(self._next_look, self._last.time + MIN_WINDOW_SECONDS):
            if started - self._last.time > MAX_WINDOW_SECONDS:
                self._last, self._newest = _work_so_far(), None
                return None
            self.look()
            ended = time.monotonic()
            self._next_look = ended + max(1.0, 100 * (ended - started))
        return self._newest


class _Work(NamedTuple):
    """Seconds of computing, of our cores (None where the system does not tell) and of ours alone, at a time."""

    time: float
    all_seconds: float | None
    own_seconds: float


def _others(before: _Work, now: _Work) -> float | None:
    elapsed = max(now.time - before.time, 1e-3)
    own = (now.own_seconds - before.own_seconds) / elapsed
    if now.all_seconds is not None and before.all_seconds is not None:
        others = (now.all_seconds - before.all_seconds) / elapsed - own
    elif hasattr(os, "getloadavg"):
        others = os.getloadavg()[0] - own
    else:
        return None
    return round(min(max(others, 0.0), available_cores()), 2)


def _work_so_far() -> _Work:
    try:
        return _Work(time.monotonic(), _all_seconds(), _own_seconds())
    except (OSError, ValueError, IndexError, AttributeError):  # not Linux, or a /proc of another make
        return _Work(time.monotonic(), None, sum(os.times()[:4]))


def _all_seconds() -> float:
    """Of the cores that this process may use, which are those of `os.sched_getaffinity`."""
    mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    lines = [line.split() for line in Path("/proc/stat").read_text().splitlines() if line.startswith("cpu")]
    # user, nice, system, (idle, iowait), irq, softirq, steal: what a neighbour on the same machine took
    ticks = [int(value) for words in lines if words[0] in mine for value in (*words[1:4], *words[6:9])]
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Of this process and all of its children, those that ended too."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for place in Path("/proc").iterdir():
        if not place.name.isdecimal():
            continue
        try:
            words = (place / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        process = int(place.name)
        children.setdefault(int(words[1]), []).append(process)
        ticks[process] = sum(map(int, words[11:15]))
    is_rank = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1
    ours = [os.getppid() if is_rank else os.getpid()]
    for process in ours:
        ours += children.get(process, [])
    return sum(ticks.get(process, 0) for process in ours) / os.sysconf("SC_CLK_TCK")


def is_busy(others: float | None, num_cores: int | None = None) -> bool:
    """Whether other work of so many cores, of ours or of `num_cores`, makes a time that was measured beside it no fact.

    False where it is not known.
    """
    return others is not None and others > BUSY_SHARE * (num_cores or available_cores())


def free_cores(others: float | None) -> int:
    """Cores that other work leaves, at least 1; less than two fifths of a core is left out of account."""
    return max(1, int(available_cores() - (others or 0.0) + 0.4))
