"""What machine this is: the line every record carries, and what its processor is good at."""

import ctypes
import functools
import os
import platform
import sys
from pathlib import Path


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Instruction sets of this processor as Linux names them; empty on other systems."""
    return frozenset(_cpu_info("flags").split())


def _cpu_info(key: str) -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def has_fast_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 matrices in hardware (AVX-512 BF16 or AMX)."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpu_flags())


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


def keep_freed_memory() -> bool:
    """Tell glibc to reuse freed memory instead of handing it back to the kernel and faulting it in again.

    Large activations are otherwise mapped and unmapped at every layer. Measured with EfficientNet-Lite0 at 160 px
    on two cores: twice the images per second (benchmarks/memory_reuse.py). The price is a resident size that stays
    near its peak. Returns whether it took effect, which it does with glibc alone.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL("libc.so.6")
    mmap_max, trim_threshold, top_pad = -4, -1, -2  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD of malloc.h
    settings = ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 64 << 20))
    return all(libc.mallopt(name, value) == 1 for name, value in settings)
