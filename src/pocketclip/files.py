"""Files written whole or not at all, and paths that cannot leave their folder."""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import IO

from pocketclip.errors import UserError

_LEFT = re.compile(r"\..+\.[a-z0-9_]{8}")
"""Names of files that `new_file` had not finished."""


def shipped(name: str) -> Path:
    """A folder of the repository, such as `recipes`, that comes with the package; in a checkout it lies beside it."""
    inside = Path(__file__).parent / name
    return inside if inside.is_dir() else Path(__file__).parents[2] / name


def cache_root() -> Path:
    """`$POCKETCLIP_CACHE`, or `~/.cache/pocketclip`: what is there only saves time."""
    return Path(os.environ.get("POCKETCLIP_CACHE", "~/.cache/pocketclip")).expanduser()


def write_atomically(path: Path, content: str | bytes, *, elsewhere: str = "--out") -> None:
    """Write a whole file or nothing: a reader never sees a part of it, a killed process or full disk leaves none.

    `elsewhere` is what a user sets to have it written elsewhere, for the error; text is written as `encode_text` does.
    """
    with new_file(path, elsewhere=elsewhere) as file:
        file.write(encode_text(content) if isinstance(content, str) else content)


def encode_text(text: str) -> bytes:
    r"""UTF-8, with bytes of file names that are none as `\udce9`: JSON reads that back as the same name."""
    return text.encode(errors="backslashreplace")


def make_folder_of(path: Path, *, elsewhere: str = "--out") -> None:
    """See that the folder of a file to be written is there; errors as of `write_atomically`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error, elsewhere=elsewhere) from error


@contextmanager
def new_file(path: Path, *, elsewhere: str = "--out") -> Iterator[IO[bytes]]:
    """A file to write that appears under its name when it is whole, or never; errors as of `write_atomically`."""
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # two workers may write the same
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        raise cannot_write(path, error, elsewhere=elsewhere) from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def holds_only(folder: Path, *names: str, below: bool = False) -> bool:
    """Whether nothing in a folder has another name, but for what writers left that were killed.

    With `below` files in folders below it count, too, and those folders may have any name.
    """
    paths = (path for path in folder.rglob("*") if not path.is_dir()) if below else folder.iterdir()
    return all(path.name in names or _LEFT.fullmatch(path.name) for path in paths)


_HELD: set[int] = set()
"""Handles of the folders that this process alone works in."""


def _let_go() -> None:
    for handle in _HELD:
        os.close(handle)
    _HELD.clear()


if hasattr(os, "register_at_fork"):  # workers that outlive a killed process for some seconds keep nobody out
    os.register_at_fork(after_in_child=_let_go)


@contextmanager
def alone_in(folder: Path, *, elsewhere: str = "--out") -> Iterator[None]:
    """Let no other process of this machine work in a folder meanwhile; one that is there already is a UserError.

    The folder is made, and goes again if nothing was put there. The system holds it, so that a process that is killed
    leaves nothing behind; where a system or a shared disk cannot do that, nobody is kept out.
    """
    is_new = not folder.exists()
    handle = _hold(folder, elsewhere)
    try:
        yield
    finally:
        if is_new:
            with suppress(OSError):  # something lies there
                folder.rmdir()
        if handle in _HELD:
            _HELD.discard(handle)
            os.close(handle)


def _hold(folder: Path, elsewhere: str) -> int:
    """The handle by which a folder is held; -1 where it cannot be."""
    try:
        import fcntl

        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):  # Windows, or a place that the work itself will have more to say of
        return -1
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise UserError(
            f"{folder}: another process is at work there; wait until it is done, or choose another {elsewhere}."
        ) from None
    except OSError:
        os.close(handle)
        return -1
    _HELD.add(handle)
    return handle


def cannot_write(path: Path, error: OSError, *, elsewhere: str = "--out") -> UserError:
    """The error for a full or read-only disk."""
    return UserError(
        f"Cannot write {path}: {error.strerror or error}. Nothing already written was lost; "
        f"free some space or choose another place with {elsewhere}."
    )


def files_digest(files: Iterable[Path]) -> str:
    """Sixteen hex digits that change with the names and contents of files, not with their folder."""
    digest = hashlib.blake2b(digest_size=8)
    for path in files:
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'blake2b').hexdigest()}\n".encode())
    return digest.hexdigest()


_COMPARED = 2000
"""Names of a folder that are compared with a misspelt one."""


def no_such(what: str, place: str | Path) -> UserError:
    """The error for a place that is not there, with the nearest name that is."""
    return UserError(f"{place}: no such {what}.{did_you_mean(Path(place))}")


def did_you_mean(path: Path) -> str:
    """A sentence with the file or folder that a misspelt path was probably meant for; empty where none is like it."""
    near = _nearest(path)
    return f" Did you mean '{near}'?" if near is not None else ""


def _nearest(path: Path) -> Path | None:
    """The path with each part that is not there exchanged for the nearest one that is, whatever its case."""
    found = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        if part == ".." or os.path.lexists(found / part):
            found /= part
            continue
        try:
            with os.scandir(found) as entries:
                names = {entry.name.casefold(): entry.name for entry in islice(entries, _COMPARED)}
        except (OSError, ValueError):
            return None
        near = get_close_matches(part.casefold(), names, n=1)
        if not near:
            return None
        found /= names[near[0]]
    return found if path.parts else None


def resolve_inside(root: Path, name: str, *, place: str) -> Path:
    """The file of a `name` from an annotation file, below `root`; one that leads out of it, as `../x` does, is refused.

    Absolute names are allowed if they lie below it too. `place` is the file (and line) to name in the error.
    """
    base = Path(os.path.abspath(root))  # noqa: PTH100 (links stay unfollowed: users link whole data folders)
    path = Path(os.path.normpath(base / name))
    if path == base or "\0" in name:
        raise UserError(f"{place}: {name!r} is not a file name.")
    if not path.is_relative_to(base):
        raise UserError(f"{place}: file name {name!r} leads out of {base}. Give the right folder with images=DIR.")
    return path
