"""The files inside one shard by their headers: names and where their data lie, through links, nothing unpacked."""

import os
import posixpath
import shlex
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pocketclip.data.left_out import LeftOut
from pocketclip.errors import UserError

Member = tuple[int, int]
"""Offset and size of a member's data in its shard."""
_LONGEST_NAME = 1 << 20
"""Bytes of a name with its further headers: a damaged number must not take the memory."""
_MOST_KINDS = 20
_NAMES = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_UNPACK = {
    b"\x1f\x8b": ("gzip", "gunzip < {path} > {stem}"),
    b"BZh": ("bzip2", "bunzip2 < {path} > {stem}"),
    b"\xfd7zXZ": ("xz", "unxz < {path} > {stem}"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd < {path} > {stem}"),
    b"PK\x03\x04": ("zip", "unzip -d {stem}.files {path} && tar --sort=name -cf {stem} -C {stem}.files ."),
}
"""Packed files by how they begin: the format, and what unpacks one."""


@dataclass
class PassedOver:
    """Counts what was seen and gives no samples, with the first names of each kind."""

    kinds: dict[tuple[str, str], tuple[int, list[str]]] = field(default_factory=dict)
    """By what it is and its cure."""

    def add(self, what: str, name: str, cure: str = "", count: int = 1) -> None:
        """Count something of the kind `what`; where there are too many kinds to read, as one of the rest."""
        if (what, cure) not in self.kinds and len(self.kinds) >= _MOST_KINDS:
            what, cure = "members of other kinds passed over", ""
        before, names = self.kinds.get((what, cure), (0, []))
        self.kinds[what, cure] = before + count, [*names, name] if len(names) < 3 else names

    def told(self) -> tuple[LeftOut, ...]:
        """As a source says it."""
        return tuple(LeftOut(what, count, tuple(names), cure) for (what, cure), (count, names) in self.kinds.items())


def check_plain(path: Path) -> None:
    """A UserError where a path is no file, or a packed one, with what to type."""
    if not path.is_file():
        raise UserError(f"{path}: not a shard; give the .tar files, as in {path}/data-{{000000..000009}}.tar.")
    with path.open("rb") as file:
        start = file.read(8)
    for magic, (kind, line) in _UNPACK.items():
        if start.startswith(magic):
            stem = path.name.partition(".tar")[0] if ".tar" in path.name else path.stem
            unpacked = path.with_name(f"{stem}.tar")
            unpacked = unpacked if not unpacked.exists() else path.with_name(f"{stem}-unpacked.tar")
            typed = line.format(path=shlex.quote(str(path)), stem=shlex.quote(str(unpacked)))
            raise UserError(f"{path}: is compressed ({kind}), and samples are read by their place. Unpack it: {typed}")


class _Info(tarfile.TarInfo):
    """A header; one that says that its name is very long is damaged."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0 or (self.size > _LONGEST_NAME and self.type in _NAMES):
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]


def _infos(path: Path) -> Iterator[tarfile.TarInfo]:
    """The headers of a shard, or of several one behind the other; a ReadError where one does not end as it should."""
    start: int | None = 0
    with path.open("rb") as file:
        while start is not None:
            file.seek(start)
            with tarfile.open(fileobj=file, mode="r:", tarinfo=_Info) as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined] # or the whole listing stays in memory
                    yield member
                end: int = archive.offset
            mark = os.pread(file.fileno(), tarfile.BLOCKSIZE, end)
            if len(mark) < tarfile.BLOCKSIZE or any(mark):  # tarfile takes a damaged header for the end
                raise tarfile.ReadError("no end mark")
            start = _next_block(file, end)


def _next_block(file: BinaryIO, start: int) -> int | None:
    """Where the first block that is not empty begins behind one; None where there is none."""
    file.seek(start)
    while part := file.read(1 << 16):
        if any(part):
            empty = len(part) - len(part.lstrip(b"\0"))
            return start + empty - empty % tarfile.BLOCKSIZE
        start += len(part)
    return None


def members_of(path: Path, passed: PassedOver) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of the data of each file; a link has those of what it names inside the shard."""
    linked: dict[str, Member | str] | None = None
    for member in _infos(path):
        name = member.name.removeprefix("./")
        if member.type in tarfile.REGULAR_TYPES and not member.sparse:
            yield name, member.offset_data, member.size
        elif member.islnk() or member.issym():
            if linked is None:
                linked = _targets(path)
            place: Member | str | None = _target(member)
            for _ in range(8):  # links to links
                place = linked.get(place) if isinstance(place, str) else place
            if isinstance(place, tuple):
                yield name, *place
            else:
                passed.add("links to nothing inside their shard passed over", name, "pack with tar --dereference")
        elif not member.isdir():
            passed.add("members that are no plain files passed over", name)


def _target(link: tarfile.TarInfo) -> str:
    folder = posixpath.dirname(link.name) if link.issym() else ""
    return posixpath.normpath(posixpath.join(folder, link.linkname))


def _targets(path: Path) -> dict[str, Member | str]:
    """What every name of a shard stands for: the place of its data, or for a link another name."""
    found: dict[str, Member | str] = {}
    with suppress(Exception):  # where it is damaged is told by who reads it for its samples
        for member in _infos(path):
            if member.islnk() or member.issym():
                found[posixpath.normpath(member.name)] = _target(member)
            elif member.isreg() and not member.issparse():
                found[posixpath.normpath(member.name)] = (member.offset_data, member.size)
    return found
