"""A measurement in a process of its own: whatever ends it, the study hears why in one line."""

import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ends
from pocketclip.errors import Interrupted
from pocketclip.study.towers.process import in_a_process

ENDS: list[tuple[Any, object, str | None, bool]] = [
    (partial(ends.well, 7), [7], None, False),
    (ends.refused, None, "no weights at hand", False),
    (ends.wrong, None, "ZeroDivisionError: of nothing (all of it in LOG)", True),
    (partial(ends.by_signal, signal.SIGSEGV), None, "its process was ended by SIGSEGV", False),
    (
        partial(ends.by_signal, signal.SIGABRT, "double free"),
        None,
        "its process was ended by SIGABRT (double free; all of it in LOG)",
        True,
    ),
    (
        partial(ends.by_signal, signal.SIGKILL),
        None,
        "its process was killed, which often means that the machine ran out of memory",
        False,
    ),
    (ends.with_code, None, "its process ended with code 3", False),
]


@pytest.mark.parametrize(("work", "value", "problem", "has_log"), ENDS)
def test_each_end_is_told(work: Any, value: object, problem: str | None, has_log: bool, tmp_path: Path) -> None:
    log, shares = tmp_path / "x.log", list[float]()
    got = in_a_process(work, log, shares.append)
    assert got == (value, None if problem is None else problem.replace("LOG", str(log)))
    assert shares == ([0.5] if value else [])
    assert log.exists() == has_log


def test_a_request_to_stop_ends_the_process_at_once(tmp_path: Path) -> None:
    before, started = signal.getsignal(signal.SIGTERM), time.monotonic()
    with pytest.raises(Interrupted):
        in_a_process(ends.never, tmp_path / "x.log", lambda share: None)
    assert time.monotonic() - started < 30
    assert signal.getsignal(signal.SIGTERM) is before
    assert list(tmp_path.iterdir()) == []
