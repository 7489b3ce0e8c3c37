"""Parquet files, and pictures stored inside them."""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketclip.config import digest
from pocketclip.data.identity import UNREADABLE
from pocketclip.data.keys import content_id
from pocketclip.data.labels import LabelColumn, LabelledSource
from pocketclip.data.left_out import LeftOut
from pocketclip.data.source import Sample
from pocketclip.data.sources.image_files import file_stamp, locate, read_file
from pocketclip.data.sources.joined_rows import JoinedRows, JoinedSource, kept_ids
from pocketclip.errors import BrokenItemError, UserError, require, unreadable
from pocketclip.files import resolve_inside


@dataclass(frozen=True)
class Parquet:
    """One or several Parquet files of the same columns, read as one table."""

    files: tuple[Path, ...]
    columns: tuple[str, ...]
    schema: Any
    groups: tuple[tuple[int, int, int], ...]
    """File, number inside it and rows of each row group."""

    @classmethod
    def open(cls, place: Path) -> "Parquet":
        """A file, the files of a folder, or those of a pattern with `*` or `{00..04}`."""
        parquet = require("pyarrow.parquet", extra="parquet")
        files, groups, schema = _files(place), [], None
        for number, file in enumerate(files):
            with unreadable(f"{file}: not a Parquet file"):
                table = parquet.ParquetFile(file)
            schema = table.schema_arrow if schema is None else schema
            if table.schema_arrow.names != schema.names:
                listed = f"{', '.join(table.schema_arrow.names)}; {files[0]}: {', '.join(schema.names)}"
                raise UserError(f"{file}: other columns than the first file ({listed}).")
            sizes = (table.metadata.row_group(group).num_rows for group in range(table.num_row_groups))
            groups += [(number, group, size) for group, size in enumerate(sizes)]
        assert schema is not None
        if twice := sorted({name for name in schema.names if schema.names.count(name) > 1}):
            raise UserError(f"{files[0]}: column {', '.join(map(repr, twice))} is there twice; rename one of the two.")
        return cls(tuple(files), tuple(schema.names), schema, tuple(groups))

    @property
    def file(self) -> Path:
        """The first file."""
        return self.files[0]

    @functools.cached_property
    def sizes(self) -> dict[Path, int]:
        """Rows of each file."""
        sizes = dict.fromkeys(self.files, 0)
        for number, _, size in self.groups:
            sizes[self.files[number]] += size
        return sizes

    def holds_bytes(self, column: str) -> bool:
        """Whether a column holds pictures, not their names."""
        kind = str(self.schema.field(column).type).removeprefix("dictionary<values=")
        return kind.startswith(("struct", "binary", "large_binary", "fixed_size_binary"))

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Place and values of each row."""
        parquet = require("pyarrow.parquet", extra="parquet")
        for file in self.files:
            number = 0
            with unreadable(f"{file}: damaged in the columns {', '.join(columns)}"):
                for batch in parquet.ParquetFile(file).iter_batches(columns=list(columns), batch_size=4096):
                    values = batch.to_pylist()
                    for row in values:
                        yield f"{file}: row {number}", row
                        number += 1


def _files(place: Path) -> list[Path]:
    text = str(place)
    if not any(sign in text for sign in "*?{") or place.exists():
        found = locate(place)
        files = sorted(found.glob("*.parquet")) if found.is_dir() else [found]
    else:
        pattern = re.sub(r"\{\d+\.\.\d+\}", "*", place.name)
        wanted = re.search(r"\{(\d+)\.\.(\d+)\}", place.name)
        files = sorted(locate(place.parent).glob(pattern))
        if wanted:
            width, numbers = len(wanted[1]), range(int(wanted[1]), int(wanted[2]) + 1)
            names = [place.name.replace(wanted[0], f"{number:0{width}}") for number in numbers]
            files = [locate(place.parent) / name for name in names]
    if not files or not all(file.is_file() for file in files):
        missing = next((file for file in files if not file.is_file()), place)
        raise UserError(f"{missing}: no such file, and none that ends in .parquet inside.")
    return files


@dataclass
class ParquetImages(LabelledSource, JoinedSource):
    """Pictures stored inside Parquet files; rows of equal bytes are one. One row group is held in memory at a time."""

    name: str
    table: Parquet
    column: str
    texts: Sequence[tuple[str, ...]]
    rows: JoinedRows
    root: Path
    """Folder of pictures that a row only names."""
    left_out: Sequence[LeftOut] = ()
    classes: LabelColumn | None = None
    further: Sequence[Mapping[str, Any]] = ()
    """What else the table says of each sample; empty where it says nothing."""
    identities: Sequence[str | None] = ()
    _held: tuple[int, Any] = (-1, None)
    """Number and images of the row group read last."""
    _names_files: bool = False
    """Whether a row was met that only names its picture, which may change while the table stays."""

    @classmethod
    def joined(
        cls,
        name: str,
        table: Parquet,
        column: str,
        texts: Sequence[Sequence[str]],
        left_out: Sequence[LeftOut],
        images: Path | None,
        labels: Sequence[str] | None = None,
        further: Sequence[Mapping[str, Any]] = (),
        identities: Sequence[str | None] = (),
    ) -> "ParquetImages":
        """From the captions of each row, its class, what else the table says of it, and who it shows."""
        root = table.file.parent if images is None else locate(images)
        source = cls(name, table, column, [], JoinedRows.by_ids(np.zeros(0, np.int64)), root, left_out)
        stamp = ["parquet", [[str(file.absolute()), *file_stamp(file)] for file in table.files], column, str(root)]
        source.rows = JoinedRows.by_ids(
            kept_ids(str(table.file), stamp, len(texts), source._row_ids(), lambda: not source._names_files)
        )
        source.texts = source.rows.join(texts)
        if labels is not None:
            source.classes = LabelColumn.read([labels[row] for row in source.rows.first.tolist()])
        source.further = [further[row] for row in source.rows.first.tolist()] if further else ()
        source.identities = [identities[row] for row in source.rows.first.tolist()] if identities else ()
        return source

    def _row_ids(self) -> Iterator[int]:
        for group, (_, _, size) in enumerate(self.table.groups):
            try:
                values = self._read_group(group)
            except BrokenItemError:  # its samples are broken items
                yield from [UNREADABLE] * size
                continue
            for value in values:
                try:
                    data = self._bytes(value.as_py())
                except (BrokenItemError, UserError):
                    data = b""
                yield content_id(data) if data else UNREADABLE

    def _bytes(self, value: Any) -> bytes:
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None and isinstance(value, dict) and value.get("path"):
            self._names_files = True
            return read_file(resolve_inside(self.root, value["path"], place=str(self.table.file)))
        return data or b""

    def _find(self, index: int) -> tuple[int, int]:
        """Row group of a sample's first row, and its place inside."""
        row = int(self.rows.first[index])
        group = int(np.searchsorted(self._firsts, row, side="right")) - 1
        return group, row - int(self._firsts[group])

    @functools.cached_property
    def _firsts(self) -> npt.NDArray[np.int64]:
        """(G,) the first row of each group among those of all files."""
        sizes = np.array([size for _, _, size in self.table.groups], np.int64)
        return np.cumsum(sizes) - sizes

    def sample(self, index: int) -> Sample:
        group, offset = self._find(index)
        held = self._held  # read and set as a whole: several threads may be here at once
        if held[0] != group:
            self._held = held = (group, self._read_group(group))
        data = self._bytes(held[1][offset].as_py())
        told = (self.label(index), self.metadata(index), self.identity(index))
        return Sample(self.key(index), data, self.captions(index), self.place(index), *told)

    def metadata(self, index: int) -> Mapping[str, Any]:
        return self.further[index] if self.further else {}

    def _read_group(self, group: int) -> Any:
        parquet = require("pyarrow.parquet", extra="parquet")
        number, inside, _ = self.table.groups[group]
        file = self.table.files[number]
        try:
            return parquet.ParquetFile(file).read_row_group(inside, columns=[self.column]).column(0)
        except Exception as error:
            raise BrokenItemError(f"{file}: row group {inside} is damaged ({error}).") from error

    def place(self, index: int) -> str:
        group, offset = self._find(index)
        number, _, _ = self.table.groups[group]
        before = int(self._firsts[group] - self._firsts[self._first_groups[number]])
        return f"{self.table.files[number]}: row {before + offset}"

    @functools.cached_property
    def _first_groups(self) -> dict[int, int]:
        """The first group of each file that has one."""
        return {file: group for group, (file, _, _) in reversed(list(enumerate(self.table.groups)))}

    def stamp(self) -> Any:
        stamp = [[file_stamp(file) for file in self.table.files], list(self.texts), digest(self.rows.ids.tolist())]
        return [*stamp, *self.label_stamp(), *([list(map(dict, self.further))] if self.further else [])]
