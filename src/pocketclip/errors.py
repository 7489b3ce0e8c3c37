"""What the user can fix: one clear line that names the file or key, and the cure."""

import importlib
from collections.abc import Iterable
from difflib import get_close_matches
from types import ModuleType


class UserError(Exception):
    """A problem the user can fix; the command line prints it without a traceback and exits with 1."""


class BrokenItemError(UserError):
    """One item of a data source that cannot be read; a run skips and counts it, up to a limit."""


class TooManyBrokenError(UserError):
    """More items of a source are broken than the user allows; the same work may go on where more are allowed."""


class Interrupted(Exception):  # noqa: N818 (a request, not an error)
    """The user asked a run to stop, and it did so cleanly; the command line says how to go on."""


def unknown_choice(what: str, got: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not in a fixed set, with the nearest known name."""
    names = sorted(known)
    near = get_close_matches(got, names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return UserError(f"Unknown {what} '{got}'.{hint} Known: {', '.join(names)}.")


def first_line(error: BaseException) -> str:
    """The first line of a library's message, at most 120 characters; its type where it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__


def require(module: str, *, extra: str | None = None, package: str | None = None) -> ModuleType:
    """Import a module of our `extra` or, where none brings it, a pip package; the error has the exact install line."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # installed, but broken inside: hiding that would mislead
        line = f"pip install 'pocketclip[{extra}]'" if extra else f"pip install {package or module}"
        raise UserError(f"This needs '{module}', which is not installed. Install it with: {line}") from error
