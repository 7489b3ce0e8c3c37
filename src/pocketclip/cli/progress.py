"""Progress on stderr: a bar with speed, loss and time left on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LINE_EVERY_SECONDS = 10.0


class Reporter:
    """Shows a run; implements `pocketclip.run.RunReporter`."""

    def __init__(self, console: Console, progress: Progress | None) -> None:
        self.console = console
        self.progress = progress
        self._task: TaskID | None = None
        self._name = ""
        self._total = 0
        self._speed = 0.0
        self._last_line = 0.0

    def start(self, name: str, total: int, done: int) -> None:
        """A stage begins."""
        self._open(name.replace("_", " "), total, done)
        self._speed = 0.0

    def step(self, done: int, images_per_second: float, metrics: Mapping[str, float]) -> None:
        """A training step is done."""
        # Smoothed over about ten steps, so that the number can be read
        self._speed = images_per_second if not self._speed else 0.9 * self._speed + 0.1 * images_per_second
        shown = [f"{self._speed:,.0f} images/s"]
        if "loss" in metrics:
            shown.append(f"loss {metrics['loss']:.3f}")
        if metrics.get("waiting_for_data", 0) > 0.05:
            shown.append(f"{metrics['waiting_for_data']:.0%} waiting for data")
        if "text_to_image_recall@1" in metrics:
            shown.append(f"val R@1 {100 * metrics['text_to_image_recall@1']:.1f}")
        self._show(done, "  ".join(shown))

    def encoding(self, what: str, done: int, total: int) -> None:
        """A source passes through a frozen tower."""
        self.work(f"encoding {what}", done, total)

    def work(self, name: str, done: int, total: int) -> None:
        """Something with a number of parts goes on, such as reading images."""
        if name != self._name or total != self._total:
            self._open(name, total, done)
            return
        self._show(done, "")

    def note(self, message: str) -> None:
        """A line above the bar."""
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    def _open(self, name: str, total: int, done: int) -> None:
        self._name, self._total = name, total
        if self.progress is not None:
            if self._task is not None:
                self.progress.remove_task(self._task)
            self._task = self.progress.add_task(name, total=total, completed=done, info="")
        elif done < total:
            self.note(f"{name}: {done:,} of {total:,}")
        self._last_line = time.monotonic()

    def _show(self, done: int, info: str) -> None:
        if self.progress is not None:
            assert self._task is not None
            self.progress.update(self._task, completed=done, info=info)
        elif time.monotonic() - self._last_line > LINE_EVERY_SECONDS or done == self._total:
            self._last_line = time.monotonic()
            self.note(f"{self._name}: {done:,} of {self._total:,}  {info}".rstrip())


@contextmanager
def reporter(*, quiet: bool = False) -> Iterator[Reporter]:
    """A reporter on stderr, its bar removed at the end; a quiet one shows nothing."""
    console = Console(stderr=True, quiet=quiet)
    if quiet or not console.is_terminal:
        yield Reporter(console, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[info]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Reporter(console, progress)
