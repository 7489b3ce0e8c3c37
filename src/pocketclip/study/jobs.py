"""Who carries a study's runs out: this process, or several, each with one run and its share of the cores."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

from pocketclip.errors import Interrupted
from pocketclip.hardware import available_cores
from pocketclip.stages.watch import SILENT, Watch
from pocketclip.study.claims import Claim
from pocketclip.study.runs import PlannedRun, carry_out

CarryOut = Callable[[PlannedRun, Watch], str | None]
"""Carries out a run; returns what went wrong, in one line, or None."""
Ended = tuple[PlannedRun, Claim, str | None]


class Workers(Protocol):
    """Carry out claimed runs."""

    @property
    def num_free(self) -> int:
        """How many more may be started."""

    @property
    def is_busy(self) -> bool:
        """Whether any was started and has not been handed back."""

    def start(self, run: PlannedRun, claim: Claim) -> None:
        """Begin a run."""

    def ended(self, seconds: float | None) -> list[Ended]:
        """Runs that are over; waits so long for one, or for ever."""


class Here:
    """One run after the other in this process."""

    def __init__(self, watch: Watch, carry_out: CarryOut) -> None:
        self.watch, self.carry_out = watch, carry_out
        self._over: list[Ended] = []

    @property
    def num_free(self) -> int:
        """None while one waits to be handed back."""
        return 0 if self._over else 1

    @property
    def is_busy(self) -> bool:
        """Whether one waits to be handed back."""
        return bool(self._over)

    def start(self, run: PlannedRun, claim: Claim) -> None:
        """Carry the run out."""
        try:
            with claim.kept():
                problem = self.carry_out(run, HeldWatch(self.watch, claim))
        except (Interrupted, KeyboardInterrupt):
            claim.give_back()
            raise
        self._over.append((run, claim, problem))

    def ended(self, seconds: float | None) -> list[Ended]:
        """The run that was carried out."""
        if not self._over and seconds:
            time.sleep(seconds)
        over, self._over = self._over, []
        return over


class AtOnce:
    """`num_jobs` runs at a time, in processes of their own."""

    def __init__(self, num_jobs: int) -> None:
        self.num_jobs = num_jobs
        self.threads = max(1, available_cores() // num_jobs)
        self._running: dict[Connection, tuple[BaseProcess, PlannedRun, Claim]] = {}

    @property
    def num_free(self) -> int:
        """Processes that may be started."""
        return self.num_jobs - len(self._running)

    @property
    def is_busy(self) -> bool:
        """Whether a process runs."""
        return bool(self._running)

    def start(self, run: PlannedRun, claim: Claim) -> None:
        """Start a process, which takes the claim."""
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(run, claim, self.threads, theirs), daemon=False)
        process.start()
        theirs.close()  # so that the pipe ends with the child
        self._running[ours] = process, run, claim

    def ended(self, seconds: float | None) -> list[Ended]:
        """Of processes that ended or sent what went wrong."""
        if not self._running and seconds:
            time.sleep(seconds)
        over = []
        for pipe in wait(list(self._running), seconds):
            assert isinstance(pipe, Connection)
            process, run, claim = self._running.pop(pipe)
            over.append((run, claim, _outcome(process, pipe)))
        return over

    def stop(self) -> int:
        """Tell every process to stop with a checkpoint; how many there were."""
        for process, _, _ in self._running.values():
            process.terminate()  # SIGTERM, which a run answers with a checkpoint
        for process, _, claim in self._running.values():
            process.join()
            claim.give_back()
        return len(self._running)


@contextmanager
def open_workers(num_jobs: int, watch: Watch, carry_out: CarryOut) -> Iterator[Workers]:
    """Workers that are told to stop where the context is left by an error.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; every run under way was told to stop with a checkpoint.
    """
    if num_jobs == 1:
        yield Here(watch, carry_out)
        return
    workers = AtOnce(num_jobs)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that no process is left behind
    try:
        yield workers
    except BaseException as error:
        num_stopped = workers.stop()
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"Stopped with {num_stopped} runs under way.") from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


class HeldWatch(Watch):
    """Passes all on, and stops a run that another process took over while this one was still for too long."""

    def __init__(self, watch: Watch, claim: Claim) -> None:
        self.watch, self.claim = watch, claim

    def work(self, name: str, done: int, total: int, broken: Sequence[str] = ()) -> None:
        self._check()
        self.watch.work(name, done, total, broken)

    def step(self, name: str, done: int, total: int, images_per_second: float, metrics: Mapping[str, float]) -> None:
        self._check()
        self.watch.step(name, done, total, images_per_second, metrics)

    def note(self, message: str) -> None:
        self.watch.note(message)

    def item(self, message: str) -> None:
        self.watch.item(message)

    def _check(self) -> None:
        if self.claim.lost.is_set():
            raise RuntimeError("another process took the run over")


def _child(run: PlannedRun, claim: Claim, threads: int, pipe: Connection) -> None:
    """One run; sends what went wrong, or None."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C reaches the parent alone, which passes one signal on
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    if not claim.is_mine():
        sys.exit(1)
    claim.hand_over()
    try:
        with claim.kept():
            pipe.send(carry_out(run, HeldWatch(SILENT, claim)))  # bars of several runs would write over each other
    except Interrupted as stop:
        pipe.send(str(stop))
        sys.exit(130)


def _end_with_the_parent() -> None:
    """Nobody would take what comes of a run whose study was killed; it stops with a checkpoint."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _outcome(process: BaseProcess, pipe: Connection) -> str | None:
    try:
        problem: str | None = pipe.recv()
    except EOFError:
        process.join()
        return f"its process ended with code {process.exitcode}; code -9 is often a machine out of memory"
    process.join()
    return problem
