"""Lists of ids: which samples of a source are meant, one a line of text, in Parquet, or as DataComp writes them.

DataComp's `.npy` holds 128-bit numbers (`uid` of its metadata, 32 hex digits) as sorted pairs of 64 bits, `u8,u8`.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketclip.data.keys import content_id, safe_key
from pocketclip.errors import UserError, require, unreadable
from pocketclip.files import new_file

FORMAT = 1  # raise when a name would get another number
Numbers = npt.NDArray[np.int64]
Uids = npt.NDArray[np.void]
UID = np.dtype("u8,u8")
UID_NAME = "uid"
ID_COLUMNS = (UID_NAME, "key", "id")
"""What a column of ids may be called, the first that is there."""
ENDINGS = (".txt", ".parquet", ".npy")
_DIGITS = 32
_UID_TEXT = re.compile(rf"[0-9a-fA-F]{{{_DIGITS}}}")
_VALUES = np.full(256, 255, np.uint8)
for _text in (b"0123456789abcdef", b"0123456789ABCDEF"):
    _VALUES[np.frombuffer(_text, np.uint8)] = np.arange(16)
_MIXED = 0x9E3779B97F4A7C15  # the fractional part of the golden ratio: neighbours end up far apart
_WORD = 1 << 64
_CHUNK = 1 << 16


def is_uid(name: str) -> bool:
    """Whether a name is one of DataComp's: 32 hex digits."""
    return _UID_TEXT.fullmatch(name) is not None


def uids_of(digits: npt.NDArray[np.uint8]) -> Uids | None:
    """(N,) of type `UID` from (N, 32) ASCII codes of hex digits; None where one of them is none."""
    values = _VALUES[digits]
    if (values == 255).any():
        return None
    packed = (values[:, ::2] << 4 | values[:, 1::2]).reshape(-1, 2, 8)
    halves = packed.view(">u8")[..., 0].astype("u8")
    uids = np.empty(len(digits), UID)
    uids["f0"], uids["f1"] = halves[:, 0], halves[:, 1]
    return uids


def uid_texts(uids: Uids) -> list[str]:
    """The 32 hex digits of each."""
    return [f"{upper:016x}{lower:016x}" for upper, lower in uids.tolist()]


def column_ids(column: Any) -> Uids | list[str]:
    """What a pyarrow column names, without those that are missing: uids where all are, else texts."""
    texts = column.drop_null().cast("large_string")
    uids = column_uids(texts)
    return texts.to_pylist() if uids is None else uids


def column_uids(column: Any) -> Uids | None:
    """(N,) of a pyarrow column of texts, without an object for each; None where one is no uid."""
    compute, arrow = require("pyarrow.compute", extra="parquet"), require("pyarrow", extra="parquet")
    lengths = compute.min_max(compute.binary_length(column)).as_py()
    if column.null_count or (lengths["min"], lengths["max"]) != (_DIGITS, _DIGITS):
        return None
    text = column.cast(arrow.large_binary())
    text = arrow.concat_arrays(text.chunks) if hasattr(text, "chunks") else text
    start = int(np.frombuffer(text.buffers()[1], np.int64)[text.offset])
    return uids_of(np.frombuffer(text.buffers()[2], np.uint8, len(text) * _DIGITS, start).reshape(-1, _DIGITS))


def uid_numbers(uids: Uids) -> Numbers:
    """(N,) 63 bits of each, the same as `name_number` of its digits."""
    mixed: npt.NDArray[np.uint64] = uids["f0"] * np.uint64(_MIXED) ^ uids["f1"]
    mixed = (mixed ^ mixed >> np.uint64(32)) * np.uint64(_MIXED)  # so that counted uids do not differ in the bit below
    return (mixed >> np.uint64(1)).astype(np.int64)


def name_number(name: str) -> int:
    """A 63-bit number for a key or another name of a sample; a name is compared as the key that it would be."""
    if is_uid(name):
        upper, lower = int(name[:16], 16), int(name[16:], 16)
        mixed = upper * _MIXED % _WORD ^ lower
        return (mixed ^ mixed >> 32) * _MIXED % _WORD >> 1
    return content_id(safe_key(name).encode(errors="surrogatepass"))


@dataclass(frozen=True)
class IdList:
    """Ids as a file has them."""

    file: Path
    numbers: Numbers
    """(n,) `name_number` of each, sorted, once each."""
    first: tuple[str, ...]
    """Some of the names, to show."""
    are_uids: bool
    """Whether all of them are DataComp's."""


def read_ids(file: Path) -> IdList:
    """Read a list of ids by its ending.

    Raises:
        UserError: it is no such list, or an empty one.
    """
    check_ending(file)
    with unreadable(f"{file}: cannot be read as a list of ids"):
        if file.suffix == ".npy":
            found = _from_npy(file)
        elif file.suffix == ".parquet":
            found = _joined(_parquet_parts(file))
        else:
            with file.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
                found = _joined(part_of(chunk) for chunk in _chunks(line.strip() for line in lines))
    numbers, first, are_uids = found
    if not len(numbers):
        raise UserError(f"{file}: holds no ids; should hold one a line, a column of them, or DataComp's u8,u8 pairs.")
    return IdList(file, np.unique(numbers), first, are_uids)


_Part = tuple[Numbers, tuple[str, ...], bool]


def _from_npy(file: Path) -> _Part:
    array = np.lib.format.open_memmap(file, mode="r")
    if array.ndim == 1 and array.dtype.kind == "U":
        return _joined(part_of(chunk) for chunk in _chunks(array.tolist()))
    fields = array.dtype.names or ()
    if array.ndim != 1 or [array.dtype[name].str[1:] for name in fields] != ["u8", "u8"]:
        raise UserError(f"{file}: should be one row of DataComp's u8,u8 pairs (got {array.dtype} {array.shape}).")
    return _joined(part_of(array[start : start + _CHUNK].astype(UID)) for start in range(0, len(array), _CHUNK))


def _parquet_parts(file: Path) -> Iterator[_Part]:
    parquet = require("pyarrow.parquet", extra="parquet")
    table = parquet.ParquetFile(file)
    column = id_column(table.schema_arrow.names, str(file))
    for batch in table.iter_batches(columns=[column], batch_size=_CHUNK):
        yield part_of(column_ids(batch.column(0)))


def id_column(columns: Sequence[str], place: str) -> str:
    """The column that names samples: the first of `ID_COLUMNS`, or the only one there is."""
    found = next((name for name in ID_COLUMNS if name in columns), columns[0] if len(columns) == 1 else None)
    if found is None:
        raise UserError(
            f"{place}: no column {', '.join(ID_COLUMNS[:-1])} or {ID_COLUMNS[-1]} that names samples "
            f"(there are: {', '.join(columns)})."
        )
    return found


def part_of(names: Uids | Sequence[str]) -> _Part:
    """`name_number` of each name, the first names, and whether all are uids."""
    if isinstance(names, np.ndarray):
        return uid_numbers(names), tuple(uid_texts(names[:3])), True
    return np.array([name_number(name) for name in names], np.int64), tuple(names[:3]), all(map(is_uid, names))


def _joined(parts: Iterable[_Part]) -> _Part:
    parts = list(parts)
    numbers = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in parts)])
    first = tuple(islice(chain.from_iterable(part[1] for part in parts), 3))
    return numbers, first, bool(parts) and all(part[2] for part in parts)


def _chunks(names: Iterable[str]) -> Iterator[list[str]]:
    there = filter(None, names)
    while chunk := list(islice(there, _CHUNK)):
        yield chunk


def write_ids(file: Path, names: Sequence[str] | Uids, *, option: str = "--ids") -> None:
    """Write ids as the ending of the file says; `.npy` is DataComp's, sorted, and takes no other names.

    `option` is what a user sets to have it written elsewhere, for errors.
    """
    check_ending(file)
    if file.suffix == ".npy":
        uids = _as_uids(file, names, option)
        with new_file(file, elsewhere=option) as opened:
            np.save(opened, uids[np.lexsort((uids["f1"], uids["f0"]))], allow_pickle=False)
        return
    texts = uid_texts(names) if isinstance(names, np.ndarray) else names
    with new_file(file, elsewhere=option) as opened:
        if file.suffix == ".parquet":
            arrow = require("pyarrow", extra="parquet")
            column = UID_NAME if isinstance(names, np.ndarray) else "key"
            parquet = require("pyarrow.parquet", extra="parquet")
            parquet.write_table(arrow.table({column: arrow.array(texts, arrow.string())}), opened)
        else:
            opened.writelines(f"{name}\n".encode(errors="surrogateescape") for name in texts)


def _as_uids(file: Path, names: Sequence[str] | Uids, option: str) -> Uids:
    if isinstance(names, np.ndarray):
        return names
    if (other := next((name for name in names if not is_uid(name)), None)) is not None:
        raise UserError(
            f"{file}: .npy is for DataComp's uids of 32 hex digits, and here is the id {other!r}; write "
            f"{option} {file.with_suffix('.txt')} instead."
        )
    digits = np.frombuffer("".join(names).encode(), np.uint8).reshape(-1, _DIGITS)
    uids = uids_of(digits)
    assert uids is not None
    return uids


def check_ending(file: Path) -> None:
    """A UserError where a file's ending says of no kind of list, or of one that needs what is not installed."""
    if file.suffix not in ENDINGS:
        raise UserError(f"{file}: a list of ids ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}.")
    if file.suffix == ".parquet":
        require("pyarrow", extra="parquet")
