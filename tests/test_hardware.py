"""The machine's one-line description, and the allocator's setting."""

import platform
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocketclip import hardware


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Nothing is remembered from other tests, nor by them."""
    remembered = hardware.cpu_flags, hardware.has_fast_bfloat16, hardware.describe_hardware
    for cached in remembered:
        cached.cache_clear()
    yield
    for cached in remembered:
        cached.cache_clear()


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
    ("vendor", "flags", "fast"),
    [
        ("AuthenticAMD", "avx2 avx512f", False),
        ("AuthenticAMD", "avx512_bf16", True),
        ("GenuineIntel", "avx512f avx512_bf16", False),
        ("GenuineIntel", "amx_bf16 avx512_bf16", True),
        ("GenuineIntel", "amx_bf16 avx2", True),
        ("AuthenticAMD", "", False),
    ],
)
def test_fast_bfloat16_needs_its_instructions_and_intels_needs_amx(
    vendor: str, flags: str, fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_proc(monkeypatch, tmp_path, f"vendor_id\t: {vendor}\nflags : {flags}\n")
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep nothing")
def test_what_was_kept_is_returned_between_stages() -> None:
    """400 MB in blocks without a mapping of their own, freed but for the last, which holds the heap's end."""
    code = """
        import os
        from pathlib import Path
        from pocketclip.hardware import keep_freed_memory, return_freed_memory
        def resident():
            return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        keep_freed_memory()
        blocks = [b"1" * 2**20 for _ in range(400)]
        last = blocks[-1]
        del blocks
        kept = resident()
        return_freed_memory()
        print(kept // 2**20, resident() // 2**20)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    kept, left = map(int, run.stdout.split())
    assert kept > 400 > 100 > left


@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_other_systems_are_left_alone(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    assert hardware.keep_freed_memory() is False
    hardware.return_freed_memory()


class Clock:
    """Time and work of the machine and of this process, as a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time, self.all_seconds, self.own_seconds = 100.0, 50.0, 20.0
        self.slept = 0.0
        monkeypatch.setattr(hardware, "_work_so_far", self.now)
        monkeypatch.setattr(hardware.time, "monotonic", lambda: self.time)
        monkeypatch.setattr(hardware.time, "sleep", self.sleep)
        monkeypatch.setattr(hardware, "available_cores", lambda: 2)

    def now(self) -> hardware._Work:
        return hardware._Work(self.time, self.all_seconds, self.own_seconds)

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.go(seconds, own=0.0, others=0.0)

    def go(self, seconds: float, own: float, others: float) -> None:
        self.time += seconds
        self.own_seconds += own * seconds
        self.all_seconds += (own + others) * seconds


def test_the_load_is_what_others_do_on_our_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    load = hardware.Load()
    clock.go(2.0, own=1.5, others=0.5)
    assert load.look() == 0.5
    clock.go(1.0, own=0.7, others=1.3)
    assert load.look() == 1.3
    assert load.average() == pytest.approx((2 * 0.5 + 1.3) / 3, abs=0.01)
    clock.go(1000.0, own=2.0, others=0.0)
    before = clock.time
    assert load.look() == 0.0  # of the moment: what it is after a wait
    assert clock.time == pytest.approx(before + hardware.MIN_WINDOW_SECONDS)


def test_a_glance_never_waits_and_is_a_second_old_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    load = hardware.Load()
    assert load.glance() is None
    clock.go(0.5, own=1.0, others=1.0)
    assert load.glance() == 1.0
    clock.go(0.5, own=1.0, others=0.0)
    assert load.glance() == 1.0
    clock.go(0.6, own=1.0, others=0.0)
    assert load.glance() == 0.0
    clock.go(3600.0, own=0.0, others=2.0)
    assert load.glance() is None  # an hour says nothing about the moment
    clock.go(1.0, own=0.0, others=2.0)
    assert load.glance() == 2.0
    assert clock.slept == 0


def test_without_proc_the_load_average_stands_in_and_without_that_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_all_seconds", lambda: float("no number"))
    monkeypatch.setattr("os.getloadavg", lambda: (1.7, 1.0, 1.0), raising=False)
    monkeypatch.setattr(hardware, "available_cores", lambda: 2)
    monkeypatch.setattr(hardware, "MIN_WINDOW_SECONDS", 0.05)
    others = hardware.Load().look()
    assert others is not None
    assert 0.5 <= others <= 1.7  # the loop of the test itself is ours
    monkeypatch.delattr("os.getloadavg")
    assert hardware.Load().look() is None
    assert not hardware.is_busy(None)
    assert hardware.free_cores(None) == 2


@pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc")
def test_our_own_children_are_no_other_work() -> None:
    load = hardware.Load()
    before = hardware._work_so_far()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.4: pass"], check=True)
    after = hardware._work_so_far()
    assert after.own_seconds - before.own_seconds >= 0.35
    assert after.all_seconds is not None
    assert before.all_seconds is not None
    assert after.all_seconds >= before.all_seconds
    found = load.average()
    assert found is not None
    assert 0 <= found <= hardware.available_cores()


@pytest.mark.parametrize(
    ("others", "cores", "busy"), [(0.1, 2, False), (0.3, 2, True), (0.3, 16, False), (2.0, 16, True), (None, 2, False)]
)
def test_a_machine_is_busy_above_a_tenth(others: float | None, cores: int, busy: bool) -> None:
    assert hardware.is_busy(others, cores) is busy
