"""Time that goes into caches: whoever needs an entry first pays for it, and others find it there."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Filling:
    """Counts the seconds of this process, those of waiting for another one that fills the same entry among them."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Within it time counts, once where it is entered again."""
        if self._since is not None:
            yield
            return
        self._since = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - self._since
            self._since = None


FILLING = Filling()
