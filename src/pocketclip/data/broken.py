"""Broken items are left out and counted, up to a limit."""

from collections.abc import Sequence

from pocketclip.errors import UserError


class BrokenItems:
    """Counts what had to be left out and stops the run above a share of the data.

    Args:
        num_samples: of the source.
        max_share: of them that may be broken.
        setting: how the user allows more, for the message.
    """

    def __init__(self, num_samples: int, max_share: float, *, setting: str = "--set data.max_broken_share") -> None:
        self.num_samples = num_samples
        self.max_share = max_share
        self.setting = setting
        self.messages: dict[str, None] = {}

    def add(self, messages: Sequence[str]) -> list[str]:
        """Take note; returns those not seen before.

        Raises:
            UserError: more than the allowed share is broken.
        """
        new = [message for message in dict.fromkeys(messages) if message not in self.messages]
        self.messages.update(dict.fromkeys(new))
        if new and len(self.messages) / self.num_samples > self.max_share:
            shown = "\n  ".join(list(self.messages)[:5])
            raise UserError(
                f"{len(self.messages)} of {self.num_samples} items are broken, more than the allowed share of "
                f"{self.max_share:.1%}. Mend them, or allow more with {self.setting}=SHARE. "
                f"The first:\n  {shown}"
            )
        return new
