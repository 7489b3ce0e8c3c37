"""Several runs at once, each in a process of its own with its share of the cores."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from pocketclip.errors import Interrupted
from pocketclip.hardware import available_cores
from pocketclip.stages.watch import SILENT
from pocketclip.study.runs import PlannedRun, carry_out


def carry_out_at_once(planned: Sequence[PlannedRun], num_jobs: int) -> Iterator[tuple[PlannedRun, str | None]]:
    """Carry out runs, `num_jobs` at a time, in processes of their own.

    Yields:
        Each run as it ends, with what went wrong in one line or None.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; every run under way was told to stop with a checkpoint.
    """
    waiting, running = list(planned), dict[Connection, tuple[BaseProcess, PlannedRun]]()
    threads = max(1, available_cores() // num_jobs)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that no process is left behind
    try:
        while waiting or running:
            while waiting and len(running) < num_jobs:
                process, ours = _start(waiting[0], threads)
                running[ours] = process, waiting.pop(0)
            for ended in wait(list(running)):
                assert isinstance(ended, Connection)
                process, run = running.pop(ended)
                yield run, _outcome(process, ended)
    except BaseException as error:
        for process, _ in running.values():
            process.terminate()  # SIGTERM, which a run answers with a checkpoint
        for process, _ in running.values():
            process.join()
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"Stopped with {len(waiting) + len(running)} runs to go.") from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _start(run: PlannedRun, threads: int) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(run, threads, theirs), daemon=False)
    process.start()
    theirs.close()  # so that the pipe ends with the child
    return process, ours


def _child(run: PlannedRun, threads: int, pipe: Connection) -> None:
    """One run; sends what went wrong, or None."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C reaches the parent alone, which passes one signal on
    import torch

    torch.set_num_threads(threads)
    try:
        pipe.send(carry_out(run, SILENT))  # bars of several runs would write over each other
    except Interrupted as stop:
        pipe.send(str(stop))
        sys.exit(130)


def _outcome(process: BaseProcess, pipe: Connection) -> str | None:
    try:
        problem: str | None = pipe.recv()
    except EOFError:
        process.join()
        return f"its process ended with code {process.exitcode}; code -9 is often a machine out of memory"
    process.join()
    return problem
