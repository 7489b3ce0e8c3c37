"""A run keeps pace on a machine that does other work too: its threads follow the cores that are free."""

import statistics
import time
from collections import deque
from collections.abc import Mapping, Sequence

from pocketclip.models.running.threads import THREADS
from pocketclip.stages.watch import Watch

SLOWER = 1.5
"""Times a stage's best pace: a reason to look at the load. One core of two taken away makes a step that much longer."""
RECENT_STEPS = 3
LOOK_EVERY_SECONDS = 10.0


class Paced(Watch):
    """Passes all on, and where steps get slower than they were gives torch as many threads as there are free cores.

    Once it has fewer, it looks every now and then whether it can have them back. How many threads share a sum may
    change its last bits, so every change is noted; on an idle machine there is none.
    """

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.notes: list[str] = []
        self._stage, self._best = "", 0.0
        self._recent: deque[float] = deque(maxlen=RECENT_STEPS)
        self._last_look = float("-inf")

    def fit(self, when: str = "at the start") -> None:
        """Look at the load now."""
        if (change := THREADS.fit()) is not None:
            self.notes.append(f"{when}: {change}")
            self.note(f"{when}: {change}.")
        self._last_look = time.monotonic()
        self._recent.clear()

    def step(self, name: str, done: int, total: int, images_per_second: float, metrics: Mapping[str, float]) -> None:
        self.watch.step(name, done, total, images_per_second, metrics)
        if name != self._stage:
            self._stage, self._best = name, 0.0
            self._recent.clear()
        self._recent.append(images_per_second)
        if len(self._recent) < RECENT_STEPS:
            return
        pace = statistics.median(self._recent)
        self._best = max(self._best, pace)
        has_reason = THREADS.is_lowered or pace * SLOWER < self._best
        if has_reason and time.monotonic() - self._last_look > LOOK_EVERY_SECONDS:
            self.fit(f"{name}, from step {done + 1}")

    def work(self, name: str, done: int, total: int, broken: Sequence[str] = ()) -> None:
        self.watch.work(name, done, total, broken)

    def note(self, message: str) -> None:
        self.watch.note(message)

    def item(self, message: str) -> None:
        self.watch.item(message)
