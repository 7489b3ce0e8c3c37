"""Which pictures are the same, by their bytes: one answer for joining rows, holding out, galleries and overlaps.

The numbers are `Source.picture_id`s, read once and kept in the cache beside the data's fingerprint.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketclip.config import digest
from pocketclip.data.ids import FORMAT, name_number
from pocketclip.data.keys import content_id
from pocketclip.data.number_cache import keep_numbers, read_numbers
from pocketclip.data.pictures.perceptual_hash import FORMAT as PERCEPTUAL_FORMAT
from pocketclip.data.pictures.perceptual_hash import perceptual_hash
from pocketclip.data.source import Source, Subset
from pocketclip.errors import BrokenItemError
from pocketclip.hardware import available_cores
from pocketclip.stages.engine import in_order
from pocketclip.stages.filling import FILLING
from pocketclip.stages.watch import SILENT, Watch

Numbers = npt.NDArray[np.int64]
UNREADABLE = -1
_BLOCK = 256
"""Pictures that a thread reads before the bar moves."""
_QUICK = 1e-4
"""Seconds for a picture below which one thread is faster than several."""


def picture_ids(source: Source, watch: Watch = SILENT) -> Numbers:
    """(N,) `picture_id` of every sample, `UNREADABLE` where there is none.

    They are in the cache for as long as names, sizes and times of the files stay.
    """
    return kept(source, "pictures", _picture_id, np.int64(UNREADABLE), watch)


def _picture_id(source: Source, index: int) -> int:
    return source.picture_id(index)


def perceptual_hashes(source: Source, watch: Watch = SILENT) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """(N,) `perceptual_hash` of every picture, and (N,) whether it could be read."""

    def hashed(source: Source, index: int) -> int:
        sample = source[index]
        return perceptual_hash(sample.image, place=sample.place)

    none = np.uint64(1 << 63)  # the bit of mean brightness, which is 0 in every hash
    hashes = kept(source, f"perceptual{PERCEPTUAL_FORMAT}", hashed, none, watch)
    return hashes, hashes != none


def caption_ids(source: Source, watch: Watch = SILENT) -> Numbers:
    """(N,) a number for each sample's captions, `UNREADABLE` where they cannot be read; kept as `picture_ids` are."""

    def captioned(source: Source, index: int) -> int:
        return content_id("\n".join(source.captions(index)).encode(errors="surrogatepass"))

    return kept(source, "captions", captioned, np.int64(UNREADABLE), watch)


def name_ids(source: Source, name: str, watch: Watch = SILENT) -> Numbers:
    """(N,) `name_number` of each sample's key, or of its metadata by that name; `UNREADABLE` where there is none."""

    def named(source: Source, index: int) -> int:
        return name_number(source.key(index) if name == "key" else str(source.metadata(index)[name]))

    return kept(source, f"names{FORMAT}.{digest(name)}", named, np.int64(UNREADABLE), watch)


def verify_content(source: Source, watch: Watch = SILENT) -> None:
    """Read every picture again, and let the source's fingerprint hang on their bytes, whatever times of files say."""
    unverified = f"{source.fingerprint()}.pictures"
    ids = keep_numbers(unverified, _computed(source, _picture_id, np.int64(UNREADABLE), watch))
    object.__setattr__(source, "chosen_by", {**source.chosen_by, "pictures": digest(ids.tolist())})
    keep_numbers(f"{source.fingerprint()}.pictures", ids)


def content_fingerprint(source: Source) -> str:
    """Equal for sources of the same pictures, captions, classes by name, metadata and identities in one order.

    Keys and places do not count, nor how they are stored; a broken sample counts as such.
    """
    content = hashlib.sha256()
    for index in range(len(source)):
        try:
            sample = source[index]
        except BrokenItemError:
            values: list[Any] = []
        else:
            names, label = source.class_names, sample.label
            named = names[label] if names is not None and label is not None and 0 <= label < len(names) else label
            values = [content_id(sample.image), sample.captions, named, sample.metadata]
            values += [] if sample.identity is None else [sample.identity]
        content.update(json.dumps(values, sort_keys=True).encode() + b"\n")
    return content.hexdigest()[:16]


def first_equal(ids: Numbers) -> Numbers:
    """(N,) for each of N ids the place of the first equal one; an unreadable picture is the same as none."""
    ids = ids.copy()
    unreadable = np.flatnonzero(ids == UNREADABLE)
    ids[unreadable] = -2 - unreadable
    _, first, of_each = np.unique(ids, return_index=True, return_inverse=True)
    return first[of_each].astype(np.int64)


@dataclass(frozen=True)
class Overlap:
    """Pictures of one source that are in another, too."""

    count: int
    of: int
    """Pictures of the first source."""
    examples: tuple[tuple[str, str], ...]
    """Places of the first few: in the first source, and in the other."""

    @property
    def share(self) -> float:
        """Of the first source."""
        return self.count / max(1, self.of)


def overlap(source: Source, other: Source, watch: Watch = SILENT) -> Overlap:
    """Which pictures of `source` are in `other`."""
    own, theirs = picture_ids(source, watch), picture_ids(other, watch)
    shared = np.flatnonzero(np.isin(own, theirs) & (own != UNREADABLE))
    examples = [(int(index), int(np.flatnonzero(theirs == own[index])[0])) for index in shared[:3]]
    places = tuple((source.place(first), other.place(second)) for first, second in examples)
    return Overlap(len(shared), len(source), places)


def _in_threads_that_pay(compute: Callable[[range], int], blocks: Sequence[range]) -> Iterator[int]:
    """A function of each block in order, by a thread a core unless an item takes microseconds.

    Threads would then wait for each other: 100,000 files of 6 kB take 1.2 s by one of them and 1.6 s by two.
    """
    started = time.perf_counter()
    for block in blocks[:1]:
        yield compute(block)
    num_threads, rest = available_cores(), blocks[1:]
    if not rest or time.perf_counter() - started < _QUICK * _BLOCK:
        yield from map(compute, rest)
    else:
        yield from in_order(ThreadPoolExecutor(num_threads), compute, rest, ahead=num_threads)


def kept(
    source: Source,
    kind: str,
    number_of: Callable[[Source, int], float],
    unreadable: np.generic,
    watch: Watch,
) -> npt.NDArray[Any]:
    """(N,) a number for each sample, of the type of `unreadable`, from the cache or computed; of a part its whole's."""
    if isinstance(source, Subset) and not source.alone:
        return kept(source.source, kind, number_of, unreadable, watch)[source.indices]
    name = f"{source.fingerprint()}.{kind}"
    numbers = read_numbers(name, len(source), unreadable.dtype)
    if numbers is not None:
        return numbers
    with FILLING.counted():
        return keep_numbers(name, _computed(source, number_of, unreadable, watch))


def _computed(
    source: Source, number_of: Callable[[Source, int], float], unreadable: np.generic, watch: Watch
) -> npt.NDArray[Any]:
    numbers = np.full(len(source), unreadable)

    def compute(block: range) -> int:
        for index in block:
            try:
                numbers[index] = number_of(source, index)
            except Exception:  # whoever reads the item for more than its number names what is wrong with it
                continue
        return block.stop

    blocks = [range(first, min(first + _BLOCK, len(source))) for first in range(0, len(source), _BLOCK)]
    for done in _in_threads_that_pay(compute, blocks):
        watch.work("comparing pictures", done, len(source))
    return numbers
