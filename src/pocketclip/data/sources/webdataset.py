"""WebDataset shards, read by number; `shards` writes them.

A sample is `KEY.jpg` (or png, webp, ...) with `KEY.json` holding `{"captions": [...]}`, or `KEY.txt` with one caption
a line, or a class: `KEY.cls`, or `"label": 3` in the JSON. Shards are indexed once when opened (headers only), and
every sample is then read by its place in the file. So any number of workers and shards gives each sample exactly
once, in any order, and a run resumes from a number.
"""

import functools
import glob
import hashlib
import io
import itertools
import json
import os
import re
import tarfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from pocketclip.data.captions import clean_captions
from pocketclip.data.keys import PackedTexts, content_id, safe_key
from pocketclip.data.labels import read_class_names
from pocketclip.data.source import IMAGE_SUFFIXES, Gift, Sample, Source, SourceSettings
from pocketclip.data.sources.folder import captions_of
from pocketclip.data.sources.image_files import MAX_FILE_BYTES, file_stamp, locate
from pocketclip.errors import BrokenItemError, UserError

Member = tuple[int, int]  # offset and size of a member's data in its shard
_NO_MEMBER = (0, 0)  # a header comes first, so no data begin at 0
_TEXT_KINDS = ("", "txt", "json")


class WebdatasetSourceConfig(SourceSettings):
    """`webdataset:dir/name-{000000..000002}.tar`, or with `*`."""

    positional: ClassVar[tuple[str, ...]] = ("shards",)
    places: ClassVar[frozenset[str]] = frozenset({"shards"})
    gives: ClassVar[frozenset[Gift]] = frozenset({"captions", "classes"})
    kind: Literal["webdataset"] = "webdataset"
    shards: str

    def read(self) -> "WebdatasetSource":
        """Index the shards, one of which has to hold a picture."""
        source = WebdatasetSource(f"webdataset:{self.shards}", expand_shards(self.shards))
        if len(source.broken) == len(source):
            reasons = "".join(f"\n  {reason}" for reason in list(source.broken.values())[:5])
            raise UserError(f"{self.shards}: no pictures in {len(source.shards)} shard(s).{reasons}")
        return source


def expand_shards(pattern: str) -> list[Path]:
    """The shard files that `name-{000000..000002}.tar`, `name-*.tar` or a plain name stands for; all must exist."""
    if (match := re.search(r"\{(\d+)\.\.(\d+)\}", pattern)) is not None:
        first, last = match.groups()
        numbers = (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
        before, after = pattern[: match.start()], pattern[match.end() :]
        return [path for number in numbers for path in expand_shards(f"{before}{number}{after}")]
    if "*" in pattern or "?" in pattern:
        root = os.environ.get("POCKETCLIP_DATA", "data")
        files = sorted(glob.glob(pattern)) or sorted(glob.glob(os.path.join(root, pattern)))  # noqa: PTH118, PTH207
        if not files:
            raise UserError(f"{pattern}: no shard matches (looked here and in {root}).")
        return [Path(name) for name in files]
    return [locate(Path(pattern))]


class _Entry(NamedTuple):
    """Where one sample lies in its shard."""

    key: str
    text_kind: int
    members: tuple[Member, ...]
    """Picture, captions, class, and then the others."""


@dataclass
class WebdatasetSource(Source):
    """Indexed shards; some samples are broken for a known reason.

    The index is arrays. An object a sample would take a gigabyte for a million of them, and once more in every worker
    process, since a look at an object writes to its memory.
    """

    name: str
    shards: list[Path]
    others: tuple[str, ...] = ()
    """Endings of further members that `member` reads, such as `views.json`."""
    gives = frozenset({"captions", "classes"})
    broken: dict[int, str] = field(init=False, default_factory=dict)
    """Reasons by sample number."""

    def __post_init__(self) -> None:
        _opened.cache_clear()  # shards may have been written anew
        numbers = array("q")
        self._keys = PackedTexts(self._index(numbers)).as_unique_keys()
        # (N, 8 + 2 x others): shard, kind of text, then offset and size of image, text, label and the others
        self._table = np.frombuffer(numbers, np.int64).reshape(-1, 8 + 2 * len(self.others))

    def _index(self, numbers: "array[int]") -> Iterator[str]:
        """The key of every sample, empty for a broken one; its row of the table goes into `numbers`."""
        nothing = _Entry("", 0, (_NO_MEMBER,) * (3 + len(self.others)))
        for shard, path in enumerate(self.shards):
            for entry in _index_shard(path, self.others):
                if isinstance(entry, str):
                    self.broken[len(numbers) // (2 + 2 * len(nothing.members))] = entry
                    entry = nothing
                numbers.extend((shard, entry.text_kind, *itertools.chain(*entry.members)))
                yield safe_key(entry.key) if entry.key else ""

    def __len__(self) -> int:
        return len(self._keys)

    def sample(self, index: int) -> Sample:
        entry, path, place = self._find(index)
        captions, label = _read_text(entry, path, place)
        return Sample(entry.key, _read_member(path, entry.members[0]), captions, place, label)

    def place(self, index: int) -> str:
        if index in self.broken:
            return self.broken[index]
        return f"{self.shards[int(self._table[index, 0])]}: {self._keys[index]}"

    def picture_id(self, index: int) -> int:
        entry, path, _ = self._find(index)
        return content_id(_read_member(path, entry.members[0]))

    def captions(self, index: int) -> tuple[str, ...]:
        return _read_text(*self._find(index))[0]

    @functools.cached_property
    def class_names(self) -> tuple[str, ...] | None:
        """The lines of `classnames.txt` beside the shards; None without that file."""
        return read_class_names(self.shards[0].parent)

    def label(self, index: int) -> int | None:
        return _read_text(*self._find(index))[1]

    def member(self, index: int, ending: str) -> tuple[bytes, str]:
        """The bytes of one of the `others`, and the file and sample to name in errors."""
        entry, path, place = self._find(index)
        member = entry.members[3 + self.others.index(ending)]
        if member == _NO_MEMBER:
            raise BrokenItemError(f"{place}: has no {ending}.")
        return _read_member(path, member), place

    def _find(self, index: int) -> tuple[_Entry, Path, str]:
        number = range(len(self))[index]
        if number in self.broken:
            raise BrokenItemError(self.broken[number])
        shard, kind, *places = self._table[number].tolist()
        key, path = self._keys[number], self.shards[shard]
        return _Entry(key, kind, tuple(zip(places[::2], places[1::2], strict=True))), path, f"{path}: {key}"

    def stamp(self) -> Any:
        index = hashlib.sha256(self._table.tobytes())
        index.update(self._keys.data)
        stamps = [file_stamp(path) for path in self.shards]
        return [stamps, index.hexdigest(), list(self.broken.items())]


def _index_shard(path: Path, others: Sequence[str]) -> Iterator[_Entry | str]:
    """One entry a sample; a shard cut in the middle keeps the samples before the cut."""
    if not path.is_file():
        raise UserError(f"{path}: not a shard; give the .tar files, as in {path}/data-{{000000..000009}}.tar.")
    size = path.stat().st_size
    entry: _Entry | None = None
    pending: dict[str, Member] = {}
    previous = ""
    try:
        with tarfile.open(path, "r:") as archive:
            for member in iter(archive.next, None):
                archive.members = []  # type: ignore[attr-defined] # or the whole listing stays in memory
                if not member.isfile():
                    continue
                if ".." in member.name.split("/") or member.name.startswith("/"):
                    yield f"{path}: member {member.name!r} leads out of the archive; it was left out."
                    continue
                if member.offset_data + member.size > size:
                    raise tarfile.ReadError("unexpected end of data")
                folder, _, base = member.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                if not stem:  # hidden files, such as the ._KEY.jpg of macOS, are no samples
                    continue
                key = f"{folder}/{stem}" if folder else stem
                if key != previous:
                    if (entry := _entry(previous, pending, others)) is not None:
                        yield entry
                    previous, pending = key, {}
                pending[suffix.lower()] = (member.offset_data, member.size)
            end = os.pread(archive.fileobj.fileno(), tarfile.BLOCKSIZE, archive.offset)  # type: ignore[attr-defined]
            if len(end) < tarfile.BLOCKSIZE or any(end):  # tarfile takes a damaged header for the end
                raise tarfile.ReadError("no end mark")
    except (tarfile.TarError, EOFError) as error:
        yield f"{path}: the shard is cut off or damaged ({error}); samples after {previous or 'its start'!r} are lost."
        pending.pop("", None)
    if (entry := _entry(previous, pending, others)) is not None:
        yield entry


def _entry(key: str, members: dict[str, Member], others: Sequence[str]) -> _Entry | None:
    """A sample from its members, or None where there is no picture."""
    image = next((place for suffix, place in members.items() if f".{suffix}" in IMAGE_SUFFIXES), None)
    if image is None:
        return None
    kind = "json" if "json" in members else "txt" if "txt" in members else ""
    further = [members.get(ending, _NO_MEMBER) for ending in (kind, "cls", *others)]
    return _Entry(key, _TEXT_KINDS.index(kind), (image, *further))


@functools.lru_cache(maxsize=64)
def _opened(path: str, process: int) -> io.FileIO:
    """An open file for positioned reads; one for each process, since a fork must not share them for long.

    It closes when the last to use it lets go, so a file that falls out of the cache stays open for a reader.
    """
    del process  # part of the cache key only
    return io.FileIO(path)


def _read_member(path: Path, member: Member) -> bytes:
    offset, size = member
    if size > MAX_FILE_BYTES:
        raise BrokenItemError(f"{path}: a member of {size:,} bytes is over the limit of {MAX_FILE_BYTES:,}.")
    try:
        file = _opened(str(path), os.getpid())
        return os.pread(file.fileno(), size, offset)
    except OSError as error:
        raise BrokenItemError(f"{path}: cannot read the shard ({error.strerror}).") from error


def _read_text(entry: _Entry, path: Path, place: str) -> tuple[tuple[str, ...], int | None]:
    """Captions and label of a sample."""
    _, text_member, class_member, *_ = entry.members
    try:
        label = None if class_member == _NO_MEMBER else int(_read_member(path, class_member))
        if text_member == _NO_MEMBER:
            return (), label
        text = _read_member(path, text_member).decode("utf-8")
        if _TEXT_KINDS[entry.text_kind] == "txt":
            return clean_captions(text.splitlines()), label
        values = json.loads(text)
        if isinstance(values, dict) and label is None and values.get("label") is not None:
            label = int(values["label"])
        return captions_of(values, place=place), label
    except UnicodeDecodeError as error:
        raise BrokenItemError(f"{place}: the captions are not valid UTF-8 ({error.reason}).") from error
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BrokenItemError(f"{place}: cannot read the captions or label ({error}).") from error
