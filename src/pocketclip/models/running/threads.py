"""How many threads torch has: as many as there are free cores.

Threads that share a computation wait for one another in every layer, and spin while they wait. Where one of them has
no core, since other work holds it, all of them lose: one image took a hundred times as long beside a training
(benchmarks/busy_machine.py). So torch gets fewer threads on a busy machine, and on an idle one what it had.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pocketclip.hardware import Load, available_cores, free_cores, is_busy

CHOSEN_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
SMALL_TOWER = 6_000_000
"""Parameters, word embeddings left out, up to which one input is as well off with one thread."""


class Threads:
    """Follows the load of the machine. The count that a user set, by environment or in torch, is left as it is."""

    def __init__(self) -> None:
        self.load = Load()
        self._lowered: tuple[int, int] | None = None  # from and to

    @property
    def most(self) -> int:
        """What torch has where no other work is in the way: as many threads as may each do a work of their own."""
        now = torch.get_num_threads()
        return self._lowered[0] if self._lowered is not None and self._lowered[1] == now else now

    @property
    def is_lowered(self) -> bool:
        """Whether torch has fewer than it would have on an idle machine."""
        return self.most > torch.get_num_threads()

    @property
    def may_change(self) -> bool:
        """Whether the count is ours to choose; ranks have shared the cores out already."""
        if any(os.environ.get(name) for name in CHOSEN_BY_USER) or int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
            return False
        return self.most in (available_cores(), max(1, available_cores() // 2))  # all, or one a physical core

    def fit(self) -> str | None:
        """Look at the load, and give torch the cores that are free; returns a note where that changed something."""
        if not self.may_change:
            return None
        most, before, others = self.most, torch.get_num_threads(), self.load.look()
        wanted = min(most, free_cores(others)) if is_busy(others) else most
        if wanted == before:
            return None
        torch.set_num_threads(wanted)
        self._lowered = (most, wanted) if wanted < most else None
        return f"{wanted} of {most} threads, as other work kept {others:.1f} of {available_cores()} cores busy"

    def suited(self, count: int, tower_size: int) -> int:
        """How many threads suit one pass of so many inputs through a tower of so many parameters."""
        now = torch.get_num_threads()
        if now == 1 or not self.may_change:
            return now
        if count == 1 and tower_size <= SMALL_TOWER:
            return 1
        others = self.load.glance()
        return min(now, free_cores(others)) if is_busy(others) else now

    @contextmanager
    def while_running(self, wanted: int) -> Iterator[None]:
        """Within, torch has so many threads."""
        before = torch.get_num_threads()
        if wanted == before:
            yield
            return
        torch.set_num_threads(wanted)
        try:
            yield
        finally:
            torch.set_num_threads(before)


THREADS = Threads()
"""Of this process, as torch's own count is."""
