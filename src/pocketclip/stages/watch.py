"""The one way to tell how work is going: how far it is, what had to be left out, what is worth reading.

Whoever works takes a `Watch` and calls it. `SILENT` shows nothing, the command line's draws bars, and `BrokenItems`
stands before another one where items of a source may be broken.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from pocketclip.errors import TooManyBrokenError, printable


class Watch:
    """Shows nothing; others fill in what they show. Any of its methods may raise to stop the work."""

    def work(self, name: str, done: int, total: int, broken: Sequence[str] = ()) -> None:
        """`done` of `total` parts of the work `name` are behind us; another name begins another bar.

        `broken` has a message for each item that could not be read; the same ones may come again.
        """

    def step(self, name: str, done: int, total: int, images_per_second: float, metrics: Mapping[str, float]) -> None:
        """A training step is done, `done` of `total` in the stage `name` of a recipe; `metrics` are the newest ones."""

    def note(self, message: str) -> None:
        """One line worth reading."""

    def item(self, message: str) -> None:
        """A line on one item of many, which may be cut where there is little room."""
        self.note(message)


SILENT = Watch()


ENOUGH_TO_STOP = 20
"""Broken items from which on their share counts: a few of a small source say nothing of the rest."""


class BrokenItems(Watch):
    """Passes all on, names each broken item once, and stops the work above a share of the data.

    Fewer than `ENOUGH_TO_STOP` stop it only where none is allowed, or where more than half of the source is broken.

    Args:
        num_samples: of the source; None counts each work by itself, against its own total.
        max_share: of them that may be broken.
        setting: how the user allows more, for the message.
        again: what the same command needs beside it, to go on with what is written.
        watch: where all is passed on to.
    """

    def __init__(
        self,
        num_samples: int | None,
        max_share: float,
        *,
        setting: str = "--set data.max_broken_share",
        again: str = "",
        watch: Watch = SILENT,
    ) -> None:
        self.num_samples, self.max_share, self.watch = num_samples, max_share, watch
        self.allowing = f"{setting}=SHARE{again and f' and {again}'}"
        self.messages: dict[str, None] = {}
        self._counts: Counter[str] = Counter()

    def add(self, messages: Sequence[str], name: str = "", total: int = 0) -> list[str]:
        """Take note of broken items, of the whole source or else of the work `name`; returns those not seen before.

        A UserError says that more than the allowed share is broken.
        """
        if self.num_samples is not None:
            name, total = "", self.num_samples
        new = [message for message in dict.fromkeys(messages) if message not in self.messages]
        self.messages.update(dict.fromkeys(new))
        self._counts[name] += len(new)
        for message in new:
            self.watch.item(f"left out: {printable(message)}")
        if new and self._are_too_many(self._counts[name], total):
            shown = "\n  ".join(map(printable, list(self.messages)[:5]))
            raise TooManyBrokenError(
                f"{self._counts[name]} of {total} items are broken, more than the allowed share of "
                f"{self.max_share:.1%}. Mend them, or allow more with {self.allowing}. The first:\n  {shown}"
            )
        return new

    def _are_too_many(self, count: int, total: int) -> bool:
        share = self.max_share if count >= ENOUGH_TO_STOP or not self.max_share else max(self.max_share, 0.5)
        return count / total > share

    def summary(self) -> str:
        """How many were left out, in a sentence; nothing where all could be read."""
        count = len(self.messages)
        return f"{count:,} {'items were' if count > 1 else 'item was'} left out." if count else ""

    def work(self, name: str, done: int, total: int, broken: Sequence[str] = ()) -> None:
        """Count the broken items, then pass on; see `add`."""
        self.add(broken, name, total)
        self.watch.work(name, done, total)

    def step(self, name: str, done: int, total: int, images_per_second: float, metrics: Mapping[str, float]) -> None:
        self.watch.step(name, done, total, images_per_second, metrics)

    def note(self, message: str) -> None:
        self.watch.note(message)

    def item(self, message: str) -> None:
        self.watch.item(message)
