"""WebDataset shards, read by number; `shards` writes them.

A sample is `KEY.jpg` (or png, webp, ...) with `KEY.json` holding `{"captions": [...]}`, or `KEY.txt` (`.text`,
`.caption`) with one caption a line, or a class: `KEY.cls`, or `"label": 3` in the JSON, whose `"identity"` is who is
shown, and whose other keys are metadata. So are the numbers of `KEY.npy` where `npy=` says what they are called, as in
the sets of WILDS that DataComp downloads.
Shards are indexed once when opened (headers only), and every sample is then read by its place in the file. So any
number of workers and shards gives each sample exactly once, in any order, and a run resumes from a number.
"""

import functools
import hashlib
import io
import operator
import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from pocketclip.data.keys import PackedTexts, content_id, safe_key
from pocketclip.data.labels import CLASS_NAMES_FILE, read_class_names
from pocketclip.data.left_out import LeftOut
from pocketclip.data.sample_json import SampleText, from_json, from_lines, parse_label
from pocketclip.data.source import Gift, Sample, Source, SourceSettings
from pocketclip.data.sources.image_files import MAX_FILE_BYTES, file_stamp
from pocketclip.data.sources.shard_index import CLASS, IMAGE, JSON, NO_MEMBER, index_shard
from pocketclip.data.sources.shard_members import Member, PassedOver
from pocketclip.data.sources.shard_names import expand_shards
from pocketclip.data.written import Names
from pocketclip.errors import BrokenItemError, UserError, first_line

NPY = "npy"


class WebdatasetSourceConfig(SourceSettings):
    """`webdataset:dir/name-{000000..000002}.tar`, with `*`, or a folder of shards."""

    positional: ClassVar[tuple[str, ...]] = ("shards",)
    places: ClassVar[frozenset[str]] = frozenset({"shards"})
    gives: ClassVar[frozenset[Gift]] = frozenset({"captions", "classes", "identities"})
    kind: Literal["webdataset"] = "webdataset"
    shards: str
    npy: Annotated[Names, Field(exclude_if=operator.not_)] = ()
    """What the numbers of each `KEY.npy` are called, in order, such as `region+year+y`; then they are metadata."""

    def read(self) -> "WebdatasetSource":
        """Index the shards, one of which has to hold a picture."""
        others = (NPY,) if self.npy else ()
        source = WebdatasetSource(f"webdataset:{self.shards}", expand_shards(self.shards), others, self.npy)
        if len(source.broken) == len(source):
            reasons = "".join(f"\n  {reason}" for reason in [*source.broken.values(), *map(str, source.left_out)][:5])
            raise UserError(f"{self.shards}: no pictures in {len(source.shards)} shard(s).{reasons}")
        return source


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
    npy: tuple[str, ...] = ()
    """What the numbers of `KEY.npy`, then one of the `others`, are called."""
    gives = frozenset({"captions", "classes", "identities"})
    has_identities = True
    own: ClassVar[frozenset[str]] = frozenset()
    """Keys of a sample's JSON that are no metadata."""
    broken: dict[int, str] = field(init=False, default_factory=dict)
    """Reasons by sample number."""
    left_out: Sequence[LeftOut] = field(init=False, default=())

    def __post_init__(self) -> None:
        _opened.cache_clear()  # shards may have been written anew
        passed, tables, ends = PassedOver(), [], [0]

        def keys() -> Iterator[str]:
            for path in self.shards:
                index = index_shard(path, self.others, passed)
                if not len(index.keys):
                    passed.add("shards without a sample", path.name)
                self.broken.update({ends[-1] + number: reason for number, reason in index.broken.items()})
                tables.append(index.table)
                ends.append(ends[-1] + len(index.keys))
                yield from (safe_key(key) if key else "" for key in index.keys)

        self._keys = PackedTexts(keys()).as_unique_keys()
        # (N, 2 x members): offset and size of each; of a broken one 0. The samples of shard s are those below _ends[s]
        self._table, self._ends = tables[0] if len(tables) == 1 else np.concatenate(tables), ends[1:]
        self.left_out = passed.told()

    def __len__(self) -> int:
        return len(self._keys)

    def sample(self, index: int) -> Sample:
        path, place, members = self._find(index)
        text = self._text(path, place, members)
        metadata = {**text.metadata, **self._numbers(path, place, members)}
        image = _read_member(path, members[IMAGE])
        return Sample(self._keys[index], image, text.captions, place, text.label, metadata, text.identity)

    def place(self, index: int) -> str:
        return self.broken[index] if index in self.broken else self._find(index)[1]

    def picture_id(self, index: int) -> int:
        if index in self.broken:
            raise BrokenItemError(self.broken[index])
        offset, size = self._table[index, 2 * IMAGE : 2 * IMAGE + 2].tolist()
        return content_id(_read_member(self.shards[bisect_right(self._ends, index)], (offset, size)))

    def key(self, index: int) -> str:
        return self._keys[index]

    def captions(self, index: int) -> tuple[str, ...]:
        return self._text(*self._find(index)).captions

    def metadata(self, index: int) -> Mapping[str, Any]:
        found = self._find(index)
        return {**self._text(*found).metadata, **self._numbers(*found)}

    @functools.cached_property
    def class_names(self) -> tuple[str, ...] | None:
        """The lines of `classnames.txt` beside the shards; None without that file."""
        folders = dict.fromkeys(path.parent for path in self.shards)
        names = {folder: read_class_names(folder) for folder in folders}
        first, *others = names
        if differing := [folder for folder in others if names[folder] != names[first]]:
            raise UserError(f"{first} and {differing[0]}: their {CLASS_NAMES_FILE} differ; read one at a time.")
        return names[first]

    def label(self, index: int) -> int | None:
        return self._text(*self._find(index)).label

    def identity(self, index: int) -> str | None:
        return self._text(*self._find(index)).identity

    def member(self, index: int, ending: str) -> tuple[bytes, str]:
        """The bytes of the JSON or of one of the `others`, and the file and sample to name in errors."""
        path, place, members = self._find(index)
        member = members[JSON if ending == "json" else CLASS + 1 + self.others.index(ending)]
        if member == NO_MEMBER:
            raise BrokenItemError(f"{place}: has no {ending}.")
        return _read_member(path, member), place

    def stamp(self) -> Any:
        index = hashlib.sha256(self._table.tobytes())
        index.update(self._keys.data)
        stamps = [file_stamp(path) for path in self.shards]
        names = [folder / CLASS_NAMES_FILE for folder in dict.fromkeys(path.parent for path in self.shards)]
        index.update(b"".join(file.read_bytes() for file in names if file.is_file()))
        return [stamps, index.hexdigest(), list(self.broken.items())]

    def _find(self, index: int) -> tuple[Path, str, list[Member]]:
        """A sample's shard, what to call it in errors, and its members; BrokenItemError where it is broken."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        if index in self.broken:
            raise BrokenItemError(self.broken[index])
        path = self.shards[bisect_right(self._ends, index)]
        row = self._table[index].tolist()
        return path, f"{path}: {self._keys[index]}", list(zip(row[::2], row[1::2], strict=True))

    def _text(self, path: Path, place: str, members: list[Member]) -> SampleText:
        """What is said of a sample."""
        _, told, lines, label, *_ = members
        text = SampleText()
        try:
            if told != NO_MEMBER:
                needed = lines == label == NO_MEMBER
                text = from_json(_read_member(path, told), place=place, own=self.own, needed=needed)
            if lines != NO_MEMBER and not text.captions:
                text = text._replace(captions=from_lines(_read_member(path, lines), place=place))
            if label != NO_MEMBER:
                text = text._replace(label=parse_label(_read_member(path, label)))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise BrokenItemError(f"{place}: cannot read the captions or label ({error}).") from error
        return text

    def _numbers(self, path: Path, place: str, members: list[Member]) -> dict[str, float]:
        """The numbers of a sample's `KEY.npy` by name; none where it has none, or they have no names."""
        member = members[CLASS + 1 + self.others.index(NPY)] if self.npy else NO_MEMBER
        if member == NO_MEMBER:
            return {}
        try:
            values = np.load(io.BytesIO(_read_member(path, member)), allow_pickle=False).reshape(-1)
        except (ValueError, EOFError, OSError) as error:
            raise BrokenItemError(f"{place}: cannot read its .{NPY} ({first_line(error)}).") from error
        if len(values) != len(self.npy) or values.dtype.kind not in "biuf":
            raise UserError(
                f"{place}: its .{NPY} holds {len(values)} values ({values.dtype}), and npy={'+'.join(self.npy)} names "
                f"{len(self.npy)} numbers; name each, in their order."
            )
        return dict(zip(self.npy, values.tolist(), strict=True))


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
