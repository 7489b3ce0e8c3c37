"""The machine's one-line description, and the allocator's setting."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pocketclip import hardware


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered from other tests."""
    hardware.cpu_flags.cache_clear()
    hardware.describe_hardware.cache_clear()


def fake_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None) -> None:
    """Let `hardware` read another `/proc/cpuinfo`."""
    info = tmp_path / "cpuinfo"
    if content is not None:
        info.write_text(content)
    monkeypatch.setattr(hardware, "Path", lambda name: info if name == "/proc/cpuinfo" else Path(name))


def test_the_description_is_one_line_with_cores_and_system() -> None:
    line = hardware.describe_hardware()
    assert "\n" not in line
    assert f"{hardware.available_cores()} cores" in line
    assert line.split(", ")[0]
    assert platform.system() in line


def test_the_description_has_the_processors_name_and_its_best_instructions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_proc(monkeypatch, tmp_path, "processor : 0\nmodel name\t: Some CPU\nflags\t: fpu avx2 avx512f avx512_bf16\n")
    assert hardware.describe_hardware().startswith("Some CPU, ")
    assert "avx512_bf16" in hardware.describe_hardware()


@pytest.mark.parametrize(
    ("flags", "fast"), [("avx2 avx512f", False), ("avx512_bf16", True), ("amx_bf16 avx2", True), ("", False)]
)
def test_fast_bfloat16_needs_its_instructions(
    flags: str, fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_proc(monkeypatch, tmp_path, f"flags : {flags}\n")
    assert hardware.has_fast_bfloat16() is fast


def test_a_system_without_proc_still_has_a_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_proc(monkeypatch, tmp_path, None)
    assert hardware.cpu_flags() == frozenset()
    assert "cores" in hardware.describe_hardware()


def test_cores_are_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 2, 5}, raising=False)
    assert hardware.available_cores() == 3


def test_freed_memory_is_kept_where_the_c_library_is_glibc() -> None:
    code = "from pocketclip.hardware import keep_freed_memory; print(keep_freed_memory())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    is_glibc = platform.system() == "Linux" and platform.libc_ver()[0] == "glibc"
    assert run.stdout == f"{is_glibc}\n"


@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_other_systems_are_left_alone(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    assert hardware.keep_freed_memory() is False
