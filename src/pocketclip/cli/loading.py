"""A word on stderr while a model is loaded, which takes seconds in which nothing else is to be seen."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pocketclip.cli import telling
from pocketclip.errors import printable


@contextmanager
def loading(what: str) -> Iterator[None]:
    """`loading WHAT…` while this lasts, on a terminal that is not quiet; nothing of it is left behind."""
    if telling.asked.quiet or not sys.stderr.isatty():
        yield
        return
    sys.stderr.write(f"loading {printable(what)[:60]}…")
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
