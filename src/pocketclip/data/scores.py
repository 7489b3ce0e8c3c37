"""Numbers that samples are chosen by: measured of the sample itself, or read from a table by its id."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketclip.data.identity import UNREADABLE, kept
from pocketclip.data.ids import ID_COLUMNS, Numbers, column_ids, id_column, part_of
from pocketclip.data.language import FORMAT, may_be_english
from pocketclip.data.source import Source
from pocketclip.data.sources.delimited import LONGEST_FIELD
from pocketclip.errors import UserError, require, unknown_choice, unreadable
from pocketclip.preprocess import open_header
from pocketclip.stages.watch import SILENT, Watch

Scores = npt.NDArray[np.float64]
_BATCH = 1 << 16


def _mean_of_captions(value: Callable[[str], float]) -> Callable[[Source, int], float]:
    def mean(source: Source, index: int) -> float:
        captions = source.captions(index)
        return sum(map(value, captions)) / len(captions) if captions else np.nan

    return mean


def _size(source: Source, index: int) -> tuple[int, int]:
    sample = source[index]
    return open_header(sample.image, place=sample.place).size


def _aspect_ratio(source: Source, index: int) -> float:
    size = _size(source, index)
    return max(size) / min(size)


MEASURES: dict[str, Callable[[Source, int], float]] = {
    "caption_words": _mean_of_captions(lambda text: len(text.split())),
    "caption_letters": _mean_of_captions(len),
    "english": _mean_of_captions(may_be_english),
    "image_side": lambda source, index: min(_size(source, index)),
    "aspect_ratio": _aspect_ratio,
}
"""Of a sample: the mean of its captions' words and letters, the share of them that may be English, pixels of the
shorter side, and longer over shorter side."""


def measured(source: Source, name: str, watch: Watch = SILENT) -> Scores:
    """(N,) one of `MEASURES` of each sample, NaN where it cannot be read; kept as `identity.picture_ids` are."""
    return kept(source, f"{name}{FORMAT}", MEASURES[name], np.float64(np.nan), watch)


@dataclass(frozen=True)
class ScoreTable:
    """Scores by id."""

    file: Path
    ids: npt.NDArray[np.int64]
    """(n,) `name_number` of each row, sorted."""
    columns: dict[str, Scores]
    """(n,) of each column of numbers."""
    first: tuple[str, ...]
    """Some of the names, to show."""
    are_uids: bool

    def column(self, name: str | None) -> str:
        """The column of that name; without one the only one there is."""
        if name is None and len(self.columns) == 1:
            return next(iter(self.columns))
        if name is None:
            raise UserError(f"{self.file}: has several scores; name one of {', '.join(self.columns)}.")
        if name not in self.columns:
            raise UserError(f"{self.file}: {unknown_choice('score', name, self.columns)}")
        return name

    def of(self, ids: npt.NDArray[np.int64], name: str) -> Scores:
        """(N,) the scores of some ids, NaN where the table has none."""
        place = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
        return np.where(self.ids[place] == ids, self.columns[name][place], np.nan)


def read_scores(file: Path) -> ScoreTable:
    """Read `.parquet`, `.csv` or `.tsv` with a column of ids, one of `ID_COLUMNS`, and columns of numbers.

    Raises:
        UserError: it is no such table, is empty, or scores an id twice.
    """
    with unreadable(f"{file}: cannot be read as a table of scores"):
        parts = list(_parquet_parts(file) if file.suffix == ".parquet" else _text_parts(file))
    ids = np.concatenate([np.zeros(0, np.int64), *(part.ids for part in parts)])
    named = np.flatnonzero(ids != UNREADABLE)
    if not len(named):
        raise UserError(f"{file}: scores nothing.")
    order = named[np.argsort(ids[named], kind="stable")]
    ids = ids[order]
    if len(twice := np.flatnonzero(ids[1:] == ids[:-1])):
        rows = sorted((int(order[twice[0]]) + 1, int(order[twice[0] + 1]) + 1))
        raise UserError(f"{file}: {len(twice):,} ids are scored twice, that of row {rows[0]} in row {rows[1]} again.")
    columns = {name: np.concatenate([part.columns[name] for part in parts])[order] for name in parts[0].columns}
    return ScoreTable(file, ids, columns, parts[0].first, all(part.are_uids for part in parts))


def _parquet_parts(file: Path) -> Iterator[ScoreTable]:
    parquet, arrow = require("pyarrow.parquet", extra="parquet"), require("pyarrow", extra="parquet")
    table = parquet.ParquetFile(file)
    schema = table.schema_arrow
    names = id_column(schema.names, str(file))
    numeric = [one.name for one in schema if is_number(arrow, one.type) and one.name != names]
    _check_columns(file, numeric, schema.names)
    for batch in table.iter_batches(columns=[names, *numeric], batch_size=_BATCH):
        values = {name: batch.column(name).cast(arrow.float64(), safe=False) for name in numeric}
        columns = {name: column.to_numpy(zero_copy_only=False) for name, column in values.items()}
        there = batch.column(names).is_valid().to_numpy(zero_copy_only=False)
        found, first, are_uids = part_of(column_ids(batch.column(names)))
        yield ScoreTable(file, _in_rows(found, there), columns, first, are_uids)


def is_number(arrow: Any, kind: Any) -> bool:
    """Whether a column of an Arrow type holds numbers."""
    kinds = (arrow.types.is_floating, arrow.types.is_integer, arrow.types.is_decimal)
    return any(is_kind(kind) for is_kind in kinds)


def _text_parts(file: Path) -> Iterator[ScoreTable]:
    if file.suffix not in (".csv", ".tsv"):
        raise UserError(f"{file}: a table of scores ends in .parquet, .csv or .tsv.")
    csv.field_size_limit(LONGEST_FIELD)  # as where other tables are read, so that it does not hang on what was before
    with file.open(encoding="utf-8-sig", newline="") as lines:
        table = csv.DictReader(lines, delimiter="\t" if file.suffix == ".tsv" else ",")
        header, rows = list(table.fieldnames or []), list(table)
    names = id_column(header, str(file)) if rows else ID_COLUMNS[0]
    columns = {}
    for name in header:
        if name != names:
            try:
                columns[name] = np.array([float(row[name] or "nan") for row in rows])
            except (TypeError, ValueError):
                continue
    if rows:
        _check_columns(file, list(columns), header)
    there = np.array([bool(row[names]) for row in rows], np.bool_)
    found, first, _ = part_of([row[names] for row in rows if row[names]])
    yield ScoreTable(file, _in_rows(found, there), columns, first, False)


def _in_rows(found: Numbers, there: npt.NDArray[np.bool_]) -> Numbers:
    """(N,) ids of the rows that have one, `UNREADABLE` of the others, so that messages count all rows."""
    ids = np.full(len(there), UNREADABLE, np.int64)
    ids[there] = found
    return ids


def _check_columns(file: Path, numeric: Sequence[str], columns: Sequence[str]) -> None:
    if not numeric:
        raise UserError(f"{file}: no column of numbers beside the ids (there are: {', '.join(columns)}).")
