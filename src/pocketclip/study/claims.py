"""Who works on what: claims, which let several processes and machines share one study's folder.

A claim is a file that one process alone can make. While that process lives it touches the file now and then; one that
died is known at once on its own machine, and elsewhere by a file that nobody touched for a while. Whoever takes over
from it makes the claim of the next number, which again one process alone can do. No file is locked: locks are what
shared folders get wrong.
"""

import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pocketclip.errors import UserError
from pocketclip.files import cannot_write, write_atomically

FOLDER = ".claims"
BEAT_SECONDS, LAPSE_SECONDS = 10.0, 90.0
"""Between touches of a claim, and without one until a process on another machine counts as dead."""
MAX_DEATHS = 3
"""Processes that may die over one piece of work without bringing it forward."""
DIED = f"{MAX_DEATHS} processes died over it, most likely for want of memory"


def this_machine() -> str:
    """Where a process number means something: a boot of a machine, and the container in it."""
    boot, inside = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    parts = [boot.read_text().strip() if boot.is_file() else "", str(inside.readlink()) if inside.exists() else ""]
    return " ".join([platform.node(), *parts]).strip()


def born(pid: int) -> str:
    """When a process began, since its number may come again; empty where the system does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def is_running(pid: int, since: str) -> bool:
    """Whether a process of this machine is there, and the same one."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not since or born(pid) == since


_HELD: set[Path] = set()
"""Claims of this process's own work that is not over."""


@dataclass
class Claim:
    """A piece of work that is this process's own; `kept` while it lasts."""

    path: Path
    deaths: int
    mark: str
    """How far the work was; a process that died further on counts as none before it."""
    lost: threading.Event = field(default_factory=threading.Event)
    """Set when another process took over, since this one was still for too long."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Through a pipe an event cannot go."""
        return Claim, (self.path, self.deaths, self.mark)

    def content(self, state: str = "held", reason: str = "") -> str:
        """What others read in it."""
        pid, counted = os.getpid(), {"deaths": self.deaths, "mark": self.mark}
        values = {"state": state, "reason": reason, "machine": this_machine(), "pid": pid, "born": born(pid), **counted}
        return json.dumps(values) + "\n"

    def hand_over(self) -> None:
        """Let this process, to which another one handed the claim, be who holds it."""
        write_atomically(self.path, self.content())

    def is_mine(self) -> bool:
        """Whether nobody took over."""
        return self.path.exists() and not _next(self.path).exists()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Touch the claim while the work lasts."""
        over = threading.Event()

        def touch() -> None:
            while not over.wait(BEAT_SECONDS):
                if not self.is_mine():
                    self.lost.set()
                    return
                os.utime(self.path)

        beating = threading.Thread(target=touch, daemon=True)
        beating.start()
        try:
            yield
        finally:
            over.set()
            beating.join()

    def finish(self) -> None:
        """Hold it no longer. The file stays: that the work is finished stands elsewhere, and is seen there first."""
        _HELD.discard(self.path)

    def fail(self, reason: str) -> None:
        """Say that the work failed; a later process may try again."""
        self._close("failed", reason)

    def give_back(self) -> None:
        """Say that the work waits for anyone."""
        self._close("open")

    def _close(self, state: str, reason: str = "") -> None:
        if self.is_mine():
            write_atomically(self.path, self.content(state, reason))
        _HELD.discard(self.path)


@dataclass(frozen=True)
class Failed:
    """Work that failed, here or elsewhere."""

    reason: str


class Claims:
    """The claims of one study's folder, as one process sees them."""

    def __init__(self, study: Path, *, lapse: float = LAPSE_SECONDS) -> None:
        self.folder, self.lapse = study / FOLDER, lapse
        self._seen: dict[Path, tuple[int, float]] = {}
        self._again: set[Path] = set()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.folder, error) from error

    def failure(self, key: str) -> Failed | None:
        """Why a piece of work failed, where it did."""
        values = {} if (path := self._newest(key)) is None else _read(path)
        return Failed(str(values["reason"])) if values.get("state") == "failed" else None

    def try_again(self, key: str) -> None:
        """Let work that failed before be tried again."""
        if (path := self._newest(key)) is not None:
            self._again.add(path)

    def take(self, key: str, mark: str = "") -> Claim | Failed | None:
        """Claim a piece of work; None while another process works on it."""
        newest, deaths = self._newest(key), 0
        if newest is not None:
            values = _read(newest)
            state = values.get("state", "held")
            if state == "failed" and newest not in self._again:
                return Failed(str(values.get("reason")))
            if state == "held":
                if self._is_alive(newest, values):
                    return None
                deaths = 1 + (int(values.get("deaths", 0)) if values.get("mark") == mark else 0)
        path = self.folder / f"{key}.0" if newest is None else _next(newest)
        claim = Claim(path, deaths, mark)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(claim.content())
        except FileExistsError:
            return None  # another process was quicker
        except OSError as error:
            raise cannot_write(path, error) from error
        _HELD.add(path)
        if deaths >= MAX_DEATHS:
            claim.fail(DIED)
            return Failed(DIED)
        return claim

    def others_at_work(self) -> bool:
        """Whether any process that lives holds a claim."""
        held = ((path, _read(path)) for path in self.folder.glob("*.*") if not _next(path).exists())
        return any(values.get("state", "held") == "held" and self._is_alive(path, values) for path, values in held)

    def _newest(self, key: str) -> Path | None:
        path, newest = self.folder / f"{key}.0", None
        while path.exists():
            path, newest = _next(path), path
        return newest

    def _is_alive(self, path: Path, values: dict[str, Any]) -> bool:
        if values.get("machine") == this_machine():
            pid = int(values["pid"])
            return path in _HELD if pid == os.getpid() else is_running(pid, str(values["born"]))
        try:
            touched = path.stat().st_mtime_ns
        except OSError:
            return True  # just taken away
        before, since = self._seen.setdefault(path, (touched, time.monotonic()))
        if touched != before:  # by this process's own clock: those of several machines differ
            self._seen[path] = touched, time.monotonic()
            return True
        return time.monotonic() - since < self.lapse


def _next(path: Path) -> Path:
    return path.with_suffix(f".{int(path.suffix[1:]) + 1}")


def _read(path: Path) -> dict[str, Any]:
    """What a claim says; nothing while it is being written, or was cut off."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def first_writer(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Write a decision where there is none yet, and read back the one that counts: the first."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        own = path.with_name(f".{path.name}.{os.getpid()}.{platform.node()}")
        write_atomically(own, json.dumps(values, indent=1) + "\n")
        try:
            os.link(own, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            write_atomically(path, own.read_bytes())
        own.unlink()
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it, and it is decided anew.") from error
