"""Filters applied to the rows of a table, several of which all have to pass; see `rows`."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path

import numpy as np

from pocketclip.curate.histogram import Histogram
from pocketclip.curate.rows import ROLES, ROW_RULES, RowFilter, Rows, RowsReport, RowsVerdict, Values, batches
from pocketclip.curate.selection import Mask
from pocketclip.data.scores import is_number
from pocketclip.data.sources.parquet import Parquet
from pocketclip.errors import UserError, require, unknown_choice
from pocketclip.stages.watch import SILENT, Watch

NEED_PICTURES = ("drop_duplicate_images", "drop_duplicate_captions")
"""Rules that look at samples themselves."""

_ENDS = {"min": "least", "max": "most"}


def filter_rows(
    place: Path, filters: Sequence[RowFilter], watch: Watch = SILENT, *, with_histograms: bool = False
) -> RowsVerdict:
    """Judge every row of a Parquet file, the files of a folder or those of a pattern.

    A cut by share is as DataComp makes it: of N scored rows the value at place N x share, counted from 0 and from the
    top, is the least that stays, with all that are equal to it.

    Raises:
        UserError: a column is missing, a rule needs pictures, or nothing is kept.
    """
    table = Parquet.open(place)
    judges = [_Judge(table, one, with_histograms) for one in filters]
    done, num_rows = 0, sum(table.sizes.values())
    for rows in _all_rows(table, judges):
        for judge in judges:
            judge.look_at(rows)
        done += len(rows)
        watch.work("filtering rows", done, num_rows)
    masks = [judge.verdict() for judge in judges]
    kept = reduce(np.logical_and, masks, np.ones(num_rows, np.bool_))
    dropped = sum((judge.dropped for judge in judges), Counter[str]())
    if not kept.any():
        raise UserError(
            f"{place}: the rules keep none of {num_rows:,} rows (dropped: {json.dumps(dropped)}); use milder ones."
        )
    cuts = {judge.columns["score"]: judge.cut for judge in judges if judge.cut is not None}
    report = RowsReport(num_rows=num_rows, num_kept=int(kept.sum()), dropped=dict(dropped), cuts=cuts)
    histograms = [histogram for judge in judges for histogram in judge.histograms(kept)]
    return RowsVerdict(table, np.split(kept, np.cumsum(list(table.sizes.values()))[:-1]), report, histograms)


def _all_rows(table: Parquet, judges: Sequence["_Judge"]) -> Iterator[Rows]:
    """The columns that some judge needs, batch by batch."""
    columns = reduce(lambda all_of, judge: all_of | judge.columns, judges, dict[str, str]())
    scores = {judge.columns["score"] for judge in judges if "score" in judge.columns}
    listed = list(dict.fromkeys([*(name for role, name in columns.items() if role != "score"), *sorted(scores)]))
    for file in table.files:
        start = 0
        # A row group without columns still has rows
        for batch in batches(file, listed or [table.columns[0]]):
            yield Rows(batch, columns, (file, start))
            start += batch.num_rows


class _Judge:
    """One filter over all rows."""

    def __init__(self, table: Parquet, wanted: RowFilter, with_values: bool) -> None:
        self.filter, self.table, self.with_values = wanted, table, with_values
        self.rules = {name: value for name, value in wanted.rules.items() if name in ROW_RULES}
        if pictures := [name for name in NEED_PICTURES if name in wanted.rules]:
            raise UserError(
                f"--{pictures[0].replace('_', '-')} looks at the samples themselves, and rows: reads numbers of them; "
                "leave it out, or give the source of the pictures."
            )
        roles = {role for name in self.rules for role in ROW_RULES[name].roles}
        if "language" in wanted.rules:
            roles |= {"language"} if _find(table, "language") else {"text"}
        if wanted.entities is not None:
            roles.add("text")
        self.share: float | None = wanted.rules.get("keep_share")
        if self.share is not None:
            roles.add("score")
        self.columns = {role: self._column(role) for role in sorted(roles)}
        self.dropped = Counter[str]()
        self.cut: float | None = None
        self._masks, self._scores, self._values = list[Mask](), list[Values](), dict[str, list[Values]]()
        self._held: tuple[Path | None, Mask] = (None, np.zeros(0, np.bool_))

    def _column(self, role: str) -> str:
        if role == "score":
            return score_column(self.table, self.filter.score)
        if (name := _find(self.table, role)) is None:
            listed = ", ".join(self.table.columns)
            raise UserError(f"{self.table.file}: no column {' or '.join(ROLES[role])} (there are: {listed}).")
        return name

    def look_at(self, rows: Rows) -> None:
        """Judge some rows by all rules but the share."""
        rows = rows.scored_by(self.columns["score"]) if "score" in self.columns else rows
        stay = np.ones(len(rows), np.bool_)
        for name, passes in self._by_number(rows):
            self._drop(name, stay, passes)
        left = np.arange(len(rows)) if self.with_values else np.flatnonzero(stay)
        captioned = rows if len(left) == len(rows) else rows.take(left)  # captions cost ten times what numbers do
        for name, of_left in self._by_caption(captioned):
            passes = np.zeros(len(rows), np.bool_)
            passes[left] = of_left
            self._drop(name, stay, passes)
        if self.share is not None:
            scores = rows.numbers("score")
            unscored = stay & np.isnan(scores)
            self.dropped["no_score"] += int(unscored.sum())
            stay &= ~unscored
            self._scores.append(scores)
        self._masks.append(stay)

    def _drop(self, name: str, stay: Mask, passes: Mask) -> None:
        self.dropped[name] += int((stay & ~passes).sum())
        stay &= passes

    def _by_number(self, rows: Rows) -> Iterator[tuple[str, Mask]]:
        for name in self.rules:
            if "text" not in ROW_RULES[name].roles:
                yield self._compared(name, rows)
        if self.filter.clusters is not None:
            file, start = rows.place
            if self._held[0] != file:
                embeddings = self.filter.clusters.embeddings_beside(file, self.table.sizes[file])
                self._held = (file, self.filter.clusters.near(embeddings))
            yield "clusters", self._held[1][start : start + len(rows)]

    def _by_caption(self, rows: Rows) -> Iterator[tuple[str, Mask]]:
        for name in self.rules:
            if "text" in ROW_RULES[name].roles:
                yield self._compared(name, rows)
        if "language" in self.filter.rules:
            yield "language", rows.is_language(self.filter.rules["language"])
        if self.filter.entities is not None:
            yield "words", self.filter.entities.named_in(rows.text)

    def _compared(self, name: str, rows: Rows) -> tuple[str, Mask]:
        rule = ROW_RULES[name]
        values = rule.value(rows)
        if self.with_values:
            self._values.setdefault(name, []).append(values)
        return name, rule.passes(values, self.rules[name])

    def verdict(self) -> Mask:
        """(N,) which rows pass, the share too."""
        stay = np.concatenate([np.zeros(0, np.bool_), *self._masks])
        if self.share is not None and stay.any():
            scores = np.concatenate(self._scores)
            there = scores[stay]
            place = min(int(len(there) * self.share), len(there) - 1)
            self.cut = float(-np.partition(-there, place)[place])
            passes = scores >= self.cut
            self.dropped["keep_share"] += int((stay & ~passes).sum())
            stay &= passes
        return stay

    def histograms(self, kept: Mask) -> Iterator[Histogram]:
        """Of each number that a rule compares, with where it cuts."""
        drawn: dict[str, tuple[list[Values], dict[str, float]]] = {}
        for name, parts in self._values.items():
            drawn.setdefault(self._signal(name), (parts, {}))[1][_ENDS[name[:3]]] = self.rules[name]
        if self.cut is not None and self.with_values:
            drawn[self.columns["score"]] = (self._scores, {"least": self.cut})
        for name, (parts, cuts) in drawn.items():
            yield Histogram.of(name, "rows", np.concatenate(parts), kept, **cuts)

    def _signal(self, rule: str) -> str:
        return self.columns["score"] if rule == "min_similarity" else rule.partition("_")[2].replace("_", " ")


def _find(table: Parquet, role: str) -> str | None:
    return next((name for name in ROLES[role] if name in table.columns), None)


def score_column(table: Parquet, name: str | None) -> str:
    """The column of scores by its name, or the only one that is called a similarity or a score."""
    arrow = require("pyarrow", extra="parquet")
    numeric: list[str] = [one.name for one in table.schema if is_number(arrow, one.type)]
    if name is not None:
        if name not in numeric:
            raise UserError(f"{table.file}: {unknown_choice('score', name, numeric)}")
        return name
    found = [one for one in numeric if "similarity" in one or "score" in one] or numeric
    if len(found) != 1:
        raise UserError(
            f"{table.file}: name the column of scores with --score ({', '.join(found) or 'there is none'})."
        )
    return found[0]
