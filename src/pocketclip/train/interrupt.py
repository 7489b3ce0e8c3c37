"""Ctrl-C and SIGTERM end a run after the step at hand, with a checkpoint; Ctrl-Z stops it until it is told to go on."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pocketclip import distributed
from pocketclip.errors import Interrupted, UserError, first_line

CONTINUED = threading.Event()
"""Set where the process was stopped, as by Ctrl-Z, and goes on; who counts time clears it."""


@contextmanager
def listen() -> Iterator[threading.Event]:
    """While open, the first Ctrl-C or SIGTERM is only noted; the second acts as usual.

    Raises:
        Interrupted: in the place of any error once it is noted. Who stops a group of processes, as `timeout` and
            schedulers do, ends the workers that load data as well, and that is no fault of the run. An error that
            another rank's end brought stays: torchrun sends SIGTERM to those that are left, often before they know.
    """
    request = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield request  # Python delivers signals to the main thread only
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}  # as by nohup

    def note(number: int, frame: FrameType | None) -> None:
        request.set()
        for other, handler in before.items():
            signal.signal(other, handler)

    for number in before:
        signal.signal(number, note)
    others = dict(before)
    if hasattr(signal, "SIGCONT"):  # not on Windows; `note` leaves it alone, since `timeout` sends it behind SIGTERM
        others[signal.SIGCONT] = signal.signal(signal.SIGCONT, lambda number, frame: CONTINUED.set())
    try:
        yield request
    except (Interrupted, UserError):  # such as of a full disk
        raise
    except Exception as error:
        if request.is_set() and not distributed.is_of_another_rank(error):
            raise Interrupted(f"Stopped between steps ({first_line(error)}).") from error
        raise
    finally:
        for number, handler in others.items():
            signal.signal(number, handler)
