"""A word on stderr while a model is loaded, which takes seconds in which nothing else is to be seen."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pocketclip.errors import printable


@contextmanager
def loading(what: str) -> Iterator[None]:
    """`loading WHAT…` while this lasts, on a terminal alone; nothing of it is left behind."""
    if not sys.stderr.isatty():
        yield
        return
    sys.stderr.write(f"loading {printable(what)[:60]}…")
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
