"""What every benchmark shares: children that measure in a process of their own, and the record that is written."""

import argparse
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

from pocketclip.hardware import Load
from pocketclip.records import Provenance, code_version, now

LOAD = Load()  # from the start of the benchmark, whose own children do not count
RESULTS = Path(__file__).parents[1] / "results"


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the option every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write results/NAME.json")
    return parser


def in_a_process(script: str, *words: object) -> dict[str, Any]:
    """Run this script again with some words; returns the JSON it prints last.

    A process of its own keeps one side's memory, caches and settings from the other.
    """
    command = [sys.executable, script, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    values: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return values


class PeakMemory:
    """Within, watches the anonymous memory of this process (RssAnon); `mebibytes` is the most above the start."""

    def __init__(self) -> None:
        self._before, self._peak, self._stop = _held(), 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self._peak = max(self._peak, _held())

    @property
    def mebibytes(self) -> float:
        return self._peak - self._before


def _held() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def finish(script: str, values: dict[str, Any], *, write: bool, group: str | None = None) -> None:
    """Print the numbers, and keep them as results/NAME.json when asked.

    Args:
        script: its path; the record has its name.
        values: what was measured.
        write: whether to keep the record.
        group: dependency group that brings the peer, for the command.
    """
    name, provenance = Path(script).stem, Provenance.under(LOAD)
    record = {
        "command": f"uv run {f'--group {group} ' if group else ''}python benchmarks/{name}.py --write",
        "hardware": provenance.hardware,
        "other_load": provenance.other_load,
        "num_cores": provenance.num_cores,
        "date": now(),
        "code_version": code_version(),
        **values,
    }
    if provenance.is_busy:
        print(f"Not plain facts: {provenance.machine}.", file=sys.stderr)
    text = json.dumps(record, indent=2)
    print(text)
    if write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(text + "\n")
