"""What a user allows: a time to train, and what the model may take; words such as `20min`, `10ms` and `25MB`."""

import re
from collections.abc import Mapping
from typing import Self

from pydantic import PositiveFloat

from pocketclip.config import Config
from pocketclip.errors import UserError

SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
MILLISECONDS = {"ms": 1.0, "s": 1000.0, "us": 0.001}
BYTES = {
    **{f"{prefix}b": 1000.0**power for power, prefix in enumerate(("", "k", "m", "g", "t"))},
    **{f"{prefix}ib": 1024.0**power for power, prefix in enumerate(("", "k", "m", "g", "t")) if prefix},
}
_PART = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-z]*)", re.IGNORECASE)


class Limits(Config):
    """What was asked for; None is no limit."""

    budget_seconds: PositiveFloat
    latency_ms: PositiveFloat | None = None
    """Of one picture and one sentence, at batch 1 on this machine."""
    size_bytes: PositiveFloat | None = None
    """Of the bundle on disk."""
    memory_bytes: PositiveFloat | None = None
    """That training and using the model may take at their peak."""

    @classmethod
    def read(cls, budget: str, latency: str | None, size: str | None, memory: str | None) -> Self:
        """From the words of the command line.

        Raises:
            UserError: one of them is no such amount.
        """
        return cls(
            budget_seconds=read_amount("--budget", budget, SECONDS, "20min, 90s or 1h30m"),
            latency_ms=None if latency is None else read_amount("--latency", latency, MILLISECONDS, "10ms"),
            size_bytes=None if size is None else read_amount("--size", size, BYTES, "25MB or 25MiB"),
            memory_bytes=None if memory is None else read_amount("--memory", memory, BYTES, "4GB or 4GiB"),
        )


def read_amount(option: str, text: str, units: Mapping[str, float], examples: str) -> float:
    """A sum of numbers with units, such as `1h30m`, in the unit of `units` that is 1.

    Raises:
        UserError: it is none, has no unit, or is not above 0.
    """
    place, total, unit = 0, 0.0, ""
    while place < len(text):
        part = _PART.match(text, place)
        if part is None:
            raise UserError(f"{option} {text}: should be an amount such as {examples}.")
        number, unit = part[1], part[2].casefold()
        if not unit:
            raise UserError(f"{option} {text}: of which unit? Write it behind the number, such as {examples}.")
        if unit not in units:
            raise UserError(f"{option} {text}: unknown unit '{part[2]}'; write an amount such as {examples}.")
        if number.startswith("-") or (number.startswith("+") and place):
            raise UserError(f"{option} {text}: should be above 0, such as {examples}.")
        total += float(number) * units[unit]
        place = part.end() if text[part.end() :].strip() else len(text)
    if not unit:
        raise UserError(f"{option} '{text}': should be an amount such as {examples}.")
    if not 0 < total < float("inf"):
        raise UserError(f"{option} {text}: should be above 0, such as {examples}.")
    return total


def told_time(seconds: float) -> str:
    """`20 min`, `1 h 30 min`, `45 s`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


def told_bytes(count: float) -> str:
    """`25 MB`, `1.5 GB`; of decimal units, as disks have them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
