"""Claims: one process alone has a piece of work, whoever lives, died, or was still for too long."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pocketclip.study import claims as module
from pocketclip.study.claims import MAX_DEATHS, Claim, Claims, Failed, first_writer


def taken(claims: Claims, key: str = "a.seed-0", mark: str = "") -> Claim:
    claim = claims.take(key, mark)
    assert isinstance(claim, Claim)
    return claim


def another_process(folder: Path, key: str, *, then: str) -> subprocess.Popen[bytes]:
    """A process that takes a claim, says so, and then does something."""
    code = (
        "import sys, time, os, signal, pathlib; from pocketclip.study.claims import Claims\n"
        f"claim = Claims(pathlib.Path({str(folder)!r})).take({key!r}); print(type(claim).__name__, flush=True)\n{then}"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == b"Claim\n"
    return process


def pretend(claim: Claim, **values: object) -> None:
    """Let a claim be another one's."""
    claim.path.write_text(json.dumps({**json.loads(claim.path.read_text()), **values}))


def test_a_claim_is_of_one_process_alone(tmp_path: Path) -> None:
    process = another_process(tmp_path, "a.seed-0", then="time.sleep(60)")
    claims = Claims(tmp_path)
    assert claims.take("a.seed-0") is None
    assert claims.others_at_work()
    assert taken(claims, "b.seed-0").is_mine()
    process.kill()
    process.wait()
    assert taken(claims).deaths == 1
    assert json.loads((tmp_path / ".claims" / "a.seed-0.1").read_text())["pid"] == os.getpid()


def test_work_over_which_processes_die_is_given_up_unless_it_came_forward(tmp_path: Path) -> None:
    for number in range(MAX_DEATHS):
        claim = taken(Claims(tmp_path))
        assert claim.deaths == number
        pretend(claim, pid=2**22 + 1)
        claim.finish()
    failed = Claims(tmp_path).take("a.seed-0")
    assert isinstance(failed, Failed)
    assert "3 processes died over it" in failed.reason
    claims = Claims(tmp_path)
    claims.try_again("a.seed-0")
    assert taken(claims).deaths == 0
    for number in range(MAX_DEATHS + 2):
        claim = taken(Claims(tmp_path), "b.seed-0", mark=f"train/step-{number:08d}.pt")
        assert claim.deaths == min(number, 1)
        pretend(claim, pid=2**22 + 1)
        claim.finish()


def test_failed_work_is_tried_again_only_when_asked(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    taken(claims).fail("the disk is full")
    assert claims.take("a.seed-0") == Failed("the disk is full") == claims.failure("a.seed-0")
    assert claims.failure("b.seed-0") is None
    later = Claims(tmp_path)
    later.try_again("a.seed-0")
    assert taken(later).path.name == "a.seed-0.1"
    taken(later, "c").give_back()
    assert taken(Claims(tmp_path), "c").deaths == 0


def test_of_another_machine_a_claim_lapses_when_nobody_touches_it(tmp_path: Path) -> None:
    claim = taken(Claims(tmp_path))
    pretend(claim, machine="elsewhere")
    claims = Claims(tmp_path, lapse=0.2)
    assert claims.take("a.seed-0") is None
    time.sleep(0.25)
    os.utime(claim.path)  # whatever its clock says
    assert claims.take("a.seed-0") is None
    time.sleep(0.25)
    assert taken(claims).path.name == "a.seed-0.1"
    assert not claim.is_mine()


def test_a_claim_that_is_kept_is_touched_and_knows_when_it_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.02)
    claim = taken(Claims(tmp_path))
    os.utime(claim.path, (0, 0))
    with claim.kept():
        deadline = time.monotonic() + 10
        while claim.path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert claim.path.stat().st_mtime > 0
        (tmp_path / ".claims" / "a.seed-0.1").write_text("{}")
        assert claim.lost.wait(10)
    claim.fail("said too late")
    assert json.loads(claim.path.read_text())["state"] == "held"


def test_a_claim_that_was_cut_off_is_no_error(tmp_path: Path) -> None:
    claims = Claims(tmp_path, lapse=0.05)
    (tmp_path / ".claims" / "a.seed-0.0").write_text('{"state": "he')
    assert claims.take("a.seed-0") is None
    time.sleep(0.1)
    assert taken(claims).path.name == "a.seed-0.1"


@pytest.mark.parametrize("number", [signal.SIGSTOP])
def test_a_process_that_pauses_keeps_its_claim(number: signal.Signals, tmp_path: Path) -> None:
    process = another_process(tmp_path, "a.seed-0", then="time.sleep(60)")
    try:
        process.send_signal(number)
        assert Claims(tmp_path, lapse=0.0).take("a.seed-0") is None
    finally:
        process.kill()
        process.wait()


def _take_all(folder: Path, count: int, taken: "multiprocessing.Queue[list[int]]") -> None:
    claims = Claims(folder)
    own = [number for number in range(count) if isinstance(claims.take(f"cell-{number}.seed-0"), Claim)]
    taken.put(own)
    time.sleep(0.5)  # a claim of a process that is over would be taken again


def test_many_processes_that_begin_at_once_share_without_an_error(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[list[int]] = context.Queue()
    processes = [context.Process(target=_take_all, args=(tmp_path, 200, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    shares = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(number for share in shares for number in share) == list(range(200))


def test_the_first_decision_counts(tmp_path: Path) -> None:
    path = tmp_path / "halving" / "rung-0.json"
    assert first_writer(path, {"kept": ["a"]}) == {"kept": ["a"]}
    assert first_writer(path, {"kept": ["b"]}) == {"kept": ["a"]}
    assert [file.name for file in path.parent.iterdir()] == ["rung-0.json"]
