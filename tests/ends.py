"""Works of a process of its own, and the ways they end; here, since a process that is started finds no test's file."""

import os
import signal
import sys
import time
from collections.abc import Callable

from pocketclip.errors import UserError

Tell = Callable[[float], None]


def well(value: object, *, tell: Tell) -> object:
    print("a library's remark", file=sys.stderr)
    tell(0.5)
    return [value]


def refused(*, tell: Tell) -> None:
    raise UserError("no weights\nat hand")


def wrong(*, tell: Tell) -> None:
    raise ZeroDivisionError("of nothing")


def by_signal(number: int, words: str = "", *, tell: Tell) -> None:
    print(words, file=sys.stderr, flush=True)
    os.kill(os.getpid(), number)


def with_code(*, tell: Tell) -> None:
    os._exit(3)


def never(*, tell: Tell) -> None:
    tell(0.0)
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
