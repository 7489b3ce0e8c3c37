"""One measurement in a process of its own: its memory is nobody else's, and where it crashes the study goes on."""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pocketclip.errors import Interrupted, UserError, first_line

Work = Callable[..., Any]
"""Takes `tell`, and gives a config."""


def in_a_process(work: Work, log: Path, tell: Callable[[float], None]) -> tuple[Any, str | None]:
    """What some work gives, or why it came to none, in one line.

    What its process writes to stderr is in `log`, which stays where the work came to an end that it had not foreseen.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the process is ended.
    """
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(work, log, theirs))
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that no process is left behind
    try:
        process.start()
        theirs.close()  # so that the pipe ends with the child
        while isinstance(got := ours.recv(), float):
            tell(got)
        process.join()
    except EOFError:
        process.join()
        return None, _why(process, log)
    except KeyboardInterrupt:
        log.unlink(missing_ok=True)
        raise Interrupted("Stopped.") from None
    finally:
        if process.is_alive():
            process.kill()
            process.join()
        signal.signal(signal.SIGTERM, before)
    problem = got if isinstance(got, str) else None
    if problem is None or str(log) not in problem:
        log.unlink(missing_ok=True)
    return (got, None) if problem is None else (None, problem)


def _child(work: Work, log: Path, pipe: Connection) -> None:
    """Sends shares of the work as numbers, then what it gives, or what went wrong as a text."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C reaches the parent alone, which ends this process
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)  # what libraries say there would be written over the bars
    try:
        result = work(tell=pipe.send)
    except UserError as error:
        result = " ".join(str(error).splitlines())
    except Exception as error:  # a study goes on with its other towers, whatever befell this one
        traceback.print_exc()
        result = f"{type(error).__name__}: {first_line(error)} (all of it in {log})"
    pipe.send(result)


def _why(process: BaseProcess, log: Path) -> str:
    """A process without a result: by which signal it was ended, and its last words."""
    code = process.exitcode or 0
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    if code == -signal.SIGKILL:
        how = "was killed, which often means that the machine ran out of memory"
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    if not said:
        log.unlink(missing_ok=True)
        return f"its process {how}"
    return f"its process {how} ({said[-1][:120]}; all of it in {log})"
