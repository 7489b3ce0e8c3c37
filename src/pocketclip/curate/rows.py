"""`data filter rows:`: which rows of a table of scored samples are kept, column by column; no picture is opened.

The table is read twice in batches: once for what the rules ask, once for the ids of the rows that stay.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketclip.config import Config
from pocketclip.curate.clusters import Clusters
from pocketclip.curate.entities import Entities
from pocketclip.curate.histogram import Histogram
from pocketclip.curate.selection import Mask
from pocketclip.data.ids import Uids, column_ids, id_column, uid_texts
from pocketclip.data.language import column_may_be_english
from pocketclip.data.sources.parquet import Parquet
from pocketclip.errors import UserError, require, unreadable

BATCH = 1 << 16
"""Rows that are read and judged together."""
ROLES = {
    "width": ("original_width", "width"),
    "height": ("original_height", "height"),
    "text": ("text", "caption"),
    "language": ("language", "lang"),
}
"""What columns may be called, the first that is there."""
Values = npt.NDArray[Any]


@dataclass(frozen=True)
class RowFilter:
    """Rules that all have to hold; cuts by share are of the rows that pass this filter's other rules."""

    rules: Mapping[str, Any] = field(default_factory=dict)
    """As in `FilterConfig`."""
    score: str | None = None
    """The column that `min_similarity` and `keep_share` go by; None is the only one with `similarity` or `score`."""
    entities: Entities | None = None
    clusters: Clusters | None = None


class Rows:
    """Some rows of a table, and what the rules ask of them; a value that is missing is NaN and passes nothing."""

    def __init__(self, batch: Any, columns: Mapping[str, str], place: tuple[Path, int]) -> None:
        self._batch, self._columns, self.place = batch, columns, place

    def __len__(self) -> int:
        return int(self._batch.num_rows)

    def take(self, numbers: npt.NDArray[np.int64]) -> "Rows":
        """Some of them."""
        return Rows(self._batch.take(require("pyarrow", extra="parquet").array(numbers)), self._columns, self.place)

    def scored_by(self, column: str) -> "Rows":
        """The same rows with another column of scores."""
        if self._columns.get("score") == column:
            return self
        return Rows(self._batch, {**self._columns, "score": column}, self.place)

    def numbers(self, role: str) -> Values:
        """(N,) of a column; whole numbers stay so where none is missing."""
        arrow = require("pyarrow", extra="parquet")
        column = self._batch.column(self._columns[role])
        plain = arrow.types.is_integer(column.type) or arrow.types.is_floating(column.type)
        return np.asarray((column if plain else self._as(role, "float64")).to_numpy(zero_copy_only=False))

    def _as(self, role: str, kind: str) -> Any:
        column, name = self._batch.column(self._columns[role]), self._columns[role]
        with unreadable(f"{self.place[0]}: column {name} of type {column.type} cannot be read as {kind}"):
            column = column.cast(kind)
            column.validate(full=True)
            return column

    @cached_property
    def side(self) -> Values:
        """(N,) pixels of the shorter side."""
        return np.minimum(self.numbers("width"), self.numbers("height"))

    @cached_property
    def aspect(self) -> Values:
        """(N,) longer side over shorter side."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.maximum(self.numbers("width"), self.numbers("height")) / self.side)

    @cached_property
    def text(self) -> Any:
        """(N,) captions, as pyarrow has them."""
        return self._as("text", "string")

    @cached_property
    def words(self) -> Values:
        """(N,) words of the caption."""
        compute = require("pyarrow.compute", extra="parquet")
        counts = compute.count_substring_regex(self.text, r"[^\s\pZ]+")
        return np.asarray(counts.fill_null(0).to_numpy(zero_copy_only=False))

    @cached_property
    def letters(self) -> Values:
        """(N,) signs of the caption."""
        counts = require("pyarrow.compute", extra="parquet").utf8_length(self.text)
        return np.asarray(counts.fill_null(0).to_numpy(zero_copy_only=False))

    def is_language(self, language: str) -> Mask:
        """(N,) whether the caption is of a language, by a column where there is one."""
        if "language" not in self._columns:
            return np.asarray(column_may_be_english(self.text), np.bool_)
        equal = require("pyarrow.compute", extra="parquet").equal(self._as("language", "string"), language)
        return np.asarray(equal.fill_null(False).to_numpy(zero_copy_only=False), np.bool_)


@dataclass(frozen=True)
class _Rule:
    """Which columns a rule needs, by their roles, what it compares, and which rows pass."""

    roles: tuple[str, ...]
    value: Callable[[Rows], Values]
    passes: Callable[[Values, Any], Mask]


def _least(values: Values, least: Any) -> Mask:
    return np.asarray(values >= least)


def _most(values: Values, most: Any) -> Mask:
    return np.asarray(values <= most)


ROW_RULES: dict[str, _Rule] = {
    "min_image_side": _Rule(("width", "height"), lambda rows: rows.side, _least),
    "max_aspect_ratio": _Rule(("width", "height"), lambda rows: rows.aspect, _most),
    "min_caption_words": _Rule(("text",), lambda rows: rows.words, _least),
    "max_caption_words": _Rule(("text",), lambda rows: rows.words, _most),
    "min_caption_letters": _Rule(("text",), lambda rows: rows.letters, _least),
    "min_similarity": _Rule(("score",), lambda rows: rows.numbers("score"), _least),
}
"""Those of `FilterConfig` that compare a number; `language` and `keep_share` are handled beside them."""


class RowsReport(Config):
    """What was kept of a table."""

    num_rows: int
    num_kept: int
    dropped: dict[str, int]
    """Rows by the first rule that dropped them: those about sizes and scores come first, then those about captions."""
    cuts: dict[str, float]
    """The least score that `keep_share` keeps, by column."""


@dataclass
class RowsVerdict:
    """Which rows stay."""

    table: Parquet
    kept: list[Mask]
    """(n,) of each file."""
    report: RowsReport
    histograms: list[Histogram]

    def ids(self) -> Uids | list[str]:
        """What the rows that stay are called: DataComp's uids without an object each, or texts; some may have none."""
        name = id_column(self.table.columns, str(self.table.file))
        parts: list[Uids | list[str]] = []
        for file, kept in zip(self.table.files, self.kept, strict=True):
            start = 0
            for batch in batches(file, [name]):
                chosen = batch.column(0).filter(_mask(kept[start : start + batch.num_rows]))
                start += batch.num_rows
                with unreadable(f"{file}: column {name} names no samples"):
                    parts.append(column_ids(chosen))
        parts = [part for part in parts if len(part)]
        if not parts:
            raise UserError(f"{self.table.file}: no row that stays has a {name}.")
        uids = [part for part in parts if isinstance(part, np.ndarray)]
        if len(uids) == len(parts):
            return np.concatenate(uids)
        return [text for part in parts for text in (uid_texts(part) if isinstance(part, np.ndarray) else part)]


def _mask(kept: Mask) -> Any:
    return require("pyarrow", extra="parquet").array(kept)


def batches(file: Path, columns: list[str]) -> Iterator[Any]:
    """Some columns of a Parquet file, `BATCH` rows at a time."""
    parquet = require("pyarrow.parquet", extra="parquet")
    with unreadable(f"{file}: damaged in the columns {', '.join(columns)}"):
        yield from parquet.ParquetFile(file).iter_batches(columns=columns, batch_size=BATCH)
