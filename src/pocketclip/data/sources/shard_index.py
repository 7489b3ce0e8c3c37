"""Where the samples of one shard lie: headers are read, members of one key joined, and what is passed over counted.

A member's key ends at the first dot of its name, as WebDataset has it. What stands before the last dot is the key only
where a picture and its text or class have it and the first dot leaves no picture: `0.v2.jpg` with `0.v2.txt`.
"""

import itertools
import tarfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pocketclip.data.keys import PackedTexts
from pocketclip.data.sources.shard_members import Member, PassedOver, check_plain, members_of
from pocketclip.errors import first_line
from pocketclip.preprocess import IMAGE_SUFFIXES

NO_MEMBER = (0, 0)  # a header comes first, so no data begin at 0
IMAGE, JSON, TEXT, CLASS = range(4)
"""Members of a sample by their number; the caller's further ones follow."""
SLOTS = {
    **{suffix[1:]: IMAGE for suffix in sorted(IMAGE_SUFFIXES)},
    **{"json": JSON, "txt": TEXT, "text": TEXT, "caption": TEXT, "cls": CLASS},
}
_DEEP = 1 << 62
"""Mark of a row whose key ends at the last dot, beside a bit for each ending."""
KEY_RULE = "a key ends at the first dot of a name, so these are no pictures or texts of their own; write _ for that dot"
REPEATED = "a key's members are joined only where no ending repeats; pack samples under keys of their own"


@dataclass
class ShardIndex:
    """The samples of one shard, in the order of their first members."""

    table: npt.NDArray[np.int64]
    """(N, 2 x members), offset and size of each; 0 of what a sample has not, and of all that a broken one has."""
    keys: PackedTexts
    """N of them, empty for a broken one."""
    broken: dict[int, str]
    """Reasons by number."""


def index_shard(path: Path, others: Sequence[str], passed: PassedOver) -> ShardIndex:
    """Read the headers of a shard; one that is cut in the middle keeps the samples before the cut.

    `others` are endings of further members. A UserError says that it is no shard, or a packed one.
    """
    check_plain(path)
    slots = {**SLOTS, **{ending: number for number, ending in enumerate(others, start=CLASS + 1)}}
    rows = _Rows(slots, CLASS + 1 + len(others))
    previous, size = "", path.stat().st_size
    try:
        for name, offset, length in members_of(path, passed):
            if (".." in name and ".." in name.split("/")) or name.startswith("/"):
                rows.break_off(f"{path}: member {name!r} leads out of the archive; it was left out.")
                continue
            if offset + length > size:
                raise tarfile.ReadError("unexpected end of data")
            if name.startswith((".", "__MACOSX/")) or "/." in name or "/__MACOSX/" in name:
                passed.add("hidden members passed over", name)
                continue
            folder, slash, base = name.rpartition("/")
            stem, _, ending = base.partition(".")
            previous = f"{folder}{slash}{stem}"
            if (ending := ending.lower()) in slots:
                rows.put(previous, ending, 0, (offset, length))
                continue
            before, _, last = name.rpartition(".")
            if "." in ending and (last := last.lower()) in SLOTS:
                rows.put(before, last, _DEEP, (offset, length))
            else:
                passed.add(f".{last} members passed over" if ending else "members without an ending passed over", name)
    except Exception as error:  # tarfile has its own, and others for damaged numbers and names
        reason = first_line(error)
        rows.break_off(
            f"{path}: the shard is cut off or damaged ({reason}); samples after {previous or 'its start'!r} are lost."
        )
    return rows.joined(passed)


class _Rows:
    """Members of a shard as they come, a row for those of one key that stand together, which `joined` joins."""

    def __init__(self, slots: dict[str, int], num_members: int) -> None:
        self.slots, self.num_members = slots, num_members
        self.bits = {ending: 1 << number for number, ending in enumerate(slots)}
        self.image_bits = sum(bit for ending, bit in self.bits.items() if slots[ending] == IMAGE)
        self.nothing = array("q", [0] * (2 * num_members))
        self.members, self.masks, self.hashes = array("q"), array("q"), array("q")
        self.keys = PackedTexts(())
        self.open = {0: ("", -1), _DEEP: ("", -1)}
        """Key and row that grow, of either kind."""
        self.broken: list[tuple[int, str]] = []
        """The row that each stands before, and its reason."""

    def put(self, key: str, ending: str, kind: int, member: Member) -> None:
        """Add a member to the open row of its key; another key begins a new one, and so does an ending once more."""
        open_key, row = self.open[kind]
        bit = self.bits[ending]
        if key != open_key or self.masks[row] & bit:
            row = len(self.masks)
            self.open[kind] = key, row
            self.keys.append(key)
            self.hashes.append(hash(key))
            self.masks.append(kind)
            self.members.extend(self.nothing)
        self.masks[row] |= bit
        place = 2 * (row * self.num_members + self.slots[ending])
        if not self.members[place]:  # of several pictures of a sample, the first
            self.members[place], self.members[place + 1] = member

    def break_off(self, reason: str) -> None:
        """Something broken stands before the row that is open."""
        self.broken.append((max(0, len(self.masks) - 1), reason))

    def joined(self, passed: PassedOver) -> ShardIndex:
        """The samples: rows of one key together, without those that have no picture."""
        table = np.frombuffer(self.members, np.int64).reshape(-1, 2 * self.num_members)
        masks, hashes = np.frombuffer(self.masks, np.int64), np.frombuffer(self.hashes, np.int64)
        kept = np.ones(len(masks), np.bool_)
        if len(np.unique(hashes)) < len(hashes):
            self._join(table, masks, hashes, kept, passed)
        self._drop_bare(table, masks, hashes, kept, passed)
        images = masks & self.image_bits
        for row in np.flatnonzero(kept & ((images & (images - 1)) != 0)).tolist():
            for ending in self._endings(int(images[row]))[1:]:
                passed.add("further pictures of a sample passed over", f"{self.keys[row]}.{ending}")
        before = np.concatenate([[0], np.cumsum(kept)])
        places = [int(before[row]) for row, _ in self.broken]
        if kept.all() and not places:
            return ShardIndex(table, self.keys, {})
        broken = {
            place + number: reason for number, (place, (_, reason)) in enumerate(zip(places, self.broken, strict=True))
        }
        return ShardIndex(np.insert(table[kept], places, 0, axis=0), PackedTexts(self._kept_keys(kept, places)), broken)

    def _kept_keys(self, kept: npt.NDArray[np.bool_], places: list[int]) -> Iterator[str]:
        """The keys of the rows that stay, and an empty one for each broken item."""
        keys = (self.keys[row] for row in np.flatnonzero(kept).tolist())
        done = 0
        for place in places:
            yield from itertools.islice(keys, place - done)
            yield ""
            done = place
        yield from keys

    def _endings(self, mask: int) -> list[str]:
        return [ending for ending, bit in self.bits.items() if mask & bit]

    def _join(
        self,
        table: npt.NDArray[np.int64],
        masks: npt.NDArray[np.int64],
        hashes: npt.NDArray[np.int64],
        kept: npt.NDArray[np.bool_],
        passed: PassedOver,
    ) -> None:
        """Bring rows of one key together in the first of them; those whose endings repeat stay apart."""
        order = np.argsort(hashes, kind="stable")
        edges = np.flatnonzero(np.diff(hashes[order])) + 1
        edges = np.concatenate([[0], edges, [len(order)]])
        for run in np.flatnonzero(np.diff(edges) > 1).tolist():
            by_key: dict[str, list[int]] = {}
            for row in order[edges[run] : edges[run + 1]].tolist():
                by_key.setdefault(self.keys[row], []).append(row)
            for key, (first, *rest) in by_key.items():
                together = masks[[first, *rest]] & ~_DEEP
                if together.sum() != np.bitwise_or.reduce(together):  # an ending is there twice
                    passed.add("keys repeated inside a shard", key, REPEATED)
                    continue
                for row in rest:
                    empty = table[first, ::2] == 0
                    table[first] = np.where(np.repeat(empty, 2), table[row], table[first])
                masks[first] |= np.bitwise_or.reduce(masks[rest], initial=0)
                kept[rest] = False

    def _drop_bare(
        self,
        table: npt.NDArray[np.int64],
        masks: npt.NDArray[np.int64],
        hashes: npt.NDArray[np.int64],
        kept: npt.NDArray[np.bool_],
        passed: PassedOver,
    ) -> None:
        """Pass over what has no picture, and keys that end at the last dot without enough to show for it."""
        deep, pictured = (masks & _DEEP) != 0, table[:, 2 * IMAGE] != 0
        for row in np.flatnonzero(kept & ~deep & ~pictured).tolist():
            passed.add("samples without a picture", self.keys[row])
        if deep.any():
            told = table[:, [2 * JSON, 2 * TEXT, 2 * CLASS]].any(axis=1)
            owners = np.array([hash(_first_dot(self.keys[row])) for row in np.flatnonzero(deep).tolist()], np.int64)
            alone = np.zeros(len(deep), np.bool_)
            alone[deep] = ~np.isin(owners, hashes[kept & ~deep & pictured])
            for row in np.flatnonzero(kept & deep & ~(pictured & told & alone)).tolist():
                for ending in self._endings(int(masks[row])):
                    passed.add("members with a dot inside their key", f"{self.keys[row]}.{ending}", KEY_RULE)
                kept[row] = False
        kept &= pictured


def _first_dot(key: str) -> str:
    folder, slash, base = key.rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"
