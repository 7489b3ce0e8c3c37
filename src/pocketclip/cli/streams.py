"""Where output goes: streams that are closed, disks that are full, readers that have seen enough."""

import errno
import io
import os
import sys

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a stream says that takes no more."""


def prepare_streams() -> None:
    """Closed ones lead nowhere, and a name that is not UTF-8 ends no work; in JSON it is read back as it was."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # `>&-`; left closed, the next file that is opened would take its place
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 (it lives as long as the process)
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def unwritten() -> OSError | None:
    """What keeps stdout or stderr from taking what was printed, if anything does."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            return error
    return None


def drop_unwritten() -> None:
    """Send nowhere what could not be written, or Python would try again when it ends, and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
