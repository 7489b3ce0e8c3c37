"""Ctrl-C and SIGTERM end a run after the step at hand, with a checkpoint."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def listen() -> Iterator[threading.Event]:
    """While open, the first Ctrl-C or SIGTERM is only noted; the second acts as usual."""
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
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
