"""What a source saw when it was opened and gives no samples of."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Things of one kind that a source saw and gives no samples of, or reads otherwise than they stand."""

    what: str
    """Words behind the count, such as `.heic files passed over`."""
    count: int
    names: tuple[str, ...] = ()
    """The first of them."""
    cure: str = ""
    """What to do, such as `install the extra 'heic'`."""

    def __str__(self) -> str:
        more = ", ..." if self.names and self.count > len(self.names) else ""
        names = f" ({', '.join(self.names)}{more})" if self.names else ""
        return f"{self.count:,} {self.what}{f': {self.cure}' if self.cure else ''}{names}"
