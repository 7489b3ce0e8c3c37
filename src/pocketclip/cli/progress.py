"""Progress on stderr: a bar with speed, loss and time left on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from pocketclip.cli.telling import asked
from pocketclip.errors import printable
from pocketclip.stages.watch import BrokenItems, Watch

if TYPE_CHECKING:
    from pocketclip.data.source import Source

LINE_EVERY_SECONDS = 10.0


class CutColumn(TextColumn):
    """Gives way where a line is too narrow, with the bar and before the numbers, and is cut then."""

    def render(self, task: Task) -> Text:
        """The text of a column, on one line."""
        text = super().render(task)
        text.no_wrap, text.overflow = True, "ellipsis"
        return text

    def get_table_column(self) -> Column:
        """One that may be wrapped, since others would be the last to shrink."""
        return Column(overflow="ellipsis")


class Reporter(Watch):
    """Shows work as a bar on a terminal, as lines elsewhere."""

    def __init__(self, console: Console, progress: Progress | None) -> None:
        self.console, self.progress = console, progress
        self._task: TaskID | None = None
        self._name, self._total = "", 0
        self._speed = self._last_line = 0.0

    def step(self, name: str, done: int, total: int, images_per_second: float, metrics: Mapping[str, float]) -> None:
        if (name, total) != (self._name, self._total):
            self._open(name, total, done)
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

    def work(self, name: str, done: int, total: int, broken: Sequence[str] = ()) -> None:
        if (name, total) != (self._name, self._total):
            self._open(name, total, done)
        else:
            self._show(done, "")

    def note(self, message: str) -> None:
        """Whole: the terminal breaks it, so that a command or a path in it can still be copied."""
        self._print(message, soft_wrap=True)

    def item(self, message: str) -> None:
        """On a terminal one line, cut to its width unless more was asked for."""
        if self.console.is_terminal and not asked.verbose:
            self._print(message, no_wrap=True, overflow="ellipsis")
        else:
            self.note(message)

    def _print(self, message: str, **layout: Any) -> None:
        self.console.print(printable(message, keep="\n\t"), emoji=False, highlight=False, markup=False, **layout)

    def _open(self, name: str, total: int, done: int) -> None:
        self._name, self._total, self._speed = name, total, 0.0
        if self.progress is not None:
            if self._task is not None:
                self.progress.remove_task(self._task)
            self._task = self.progress.add_task(printable(name), total=total, completed=done, info="")
        elif done < total:
            self.note(f"{name}: {done:,} of {total:,}")
        self._last_line = time.monotonic()

    def _show(self, done: int, info: str) -> None:
        if self.progress is not None and self._task is not None:
            self.progress.update(self._task, completed=done, info=info)
        elif time.monotonic() - self._last_line > LINE_EVERY_SECONDS or done == self._total:
            self._last_line = time.monotonic()
            self.note(f"{self._name}: {done:,} of {self._total:,}  {info}".rstrip())


def tell_left_out(watch: Watch, *sources: "Source | None") -> None:
    """The first lines of a work: what the readers of its sources saw and passed over."""
    from pocketclip.data.source import left_out_lines

    for line in left_out_lines(*sources):
        watch.note(line)


@contextmanager
def reporter(
    max_broken_share: float | None = None, num_samples: int | None = None, *, quiet: bool = False
) -> Iterator[Watch]:
    """What shows progress on stderr, its bar removed at the end; nothing where `quiet`, or with --quiet.

    The work stops above `max_broken_share` of a source's items; None leaves counting to whoever works. `num_samples`
    are those of the source; None counts each work by itself.
    """
    quiet = quiet or asked.quiet
    console = Console(stderr=True, quiet=quiet)
    columns = (
        CutColumn("{task.description}", markup=False),
        BarColumn(bar_width=40 if console.width >= 120 else 10),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        CutColumn("{task.fields[info]}", markup=False),
        TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
    )
    bars = Progress(*columns, console=console, transient=True)
    with bars if console.is_terminal and not quiet else nullcontext() as progress:
        shown = Reporter(console, progress)
        if max_broken_share is None:
            yield shown
            return
        counted = BrokenItems(num_samples, max_broken_share, setting="--max-broken-share", watch=shown)
        yield counted
        if counted.messages:
            shown.note(counted.summary())
