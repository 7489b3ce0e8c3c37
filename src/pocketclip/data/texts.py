"""Texts with a class each, from a table: what a text tower's own skill is measured on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from pocketclip.config import Config
from pocketclip.data.labels import Labels, number_texts
from pocketclip.data.source import locate
from pocketclip.data.table import Row, csv_rows, find_column, jsonl_rows
from pocketclip.errors import UserError, unknown_choice

TEXT_COLUMNS = ("text", "sentence", "content", "review", "caption", "title")
LABEL_COLUMNS = ("label", "class", "category", "sentiment", "target")
SUFFIXES = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl"}


@dataclass(frozen=True)
class LabelledTexts:
    """N texts, each of a class."""

    name: str
    texts: tuple[str, ...]
    labels: Labels

    def __len__(self) -> int:
        return len(self.texts)

    def hold_out(self, share: float) -> tuple["LabelledTexts", "LabelledTexts"]:
        """Two parts, the same ones on every machine: the larger one, and a share of the texts.

        Raises:
            UserError: fewer than 4 texts.
        """
        if len(self) < 4:
            raise UserError(f"{self.name}: {len(self)} text(s) are too few to hold some out; give --train-data a file.")
        order = np.random.default_rng(0).permutation(len(self))
        num_held = min(len(self) // 2, max(1, round(len(self) * share)))
        parts = (np.sort(order[num_held:]), "training part"), (np.sort(order[:num_held]), "held out")
        rest, held = (
            LabelledTexts(
                f"{self.name} ({what})",
                tuple(self.texts[number] for number in chosen),
                Labels(f"{self.name} ({what})", self.labels.values[chosen], self.labels.names),
            )
            for chosen, what in parts
        )
        return rest, held


class LabelledTextsConfig(Config):
    """`csv:FILE` or `jsonl:FILE`; a plain FILE where its ending says which."""

    positional: ClassVar[tuple[str, ...]] = ("file",)
    kind: Literal["csv", "jsonl"]
    file: Path
    text: str | None = None
    """Column of the text; None: the first known name, such as `text` or `sentence`."""
    label: str | None = None
    """Column of the class; None: the first known name, such as `label` or `class`."""
    separator: str = ","
    """Between the columns of a CSV; `tab` for a tab."""

    def open(self) -> LabelledTexts:
        """Read the table.

        Raises:
            UserError: no such file or column, or a row without text or class.
        """
        file = locate(self.file)
        rows = csv_rows(file, self.separator) if self.kind == "csv" else jsonl_rows(file)
        pairs = list(_pairs(rows, file, self.text, self.label))
        if not pairs:
            raise UserError(f"{file}: the table is empty.")
        name = f"{self.kind}:{self.file}"
        texts, classes = zip(*pairs, strict=True)
        return LabelledTexts(name, texts, number_texts(name, classes))


def _pairs(rows: Iterator[Row], file: Path, text: str | None, label: str | None) -> Iterator[tuple[str, str]]:
    for number, row in enumerate(rows, start=1):
        place = f"{file}: row {number}"
        text = find_column(file if number == 1 else place, row, "text", text, TEXT_COLUMNS)
        label = find_column(file if number == 1 else place, row, "label", label, LABEL_COLUMNS)
        for column in (text, label):
            if row[column] is None or not str(row[column]).strip():
                raise UserError(f"{place}: column '{column}' is empty; every text needs its class.")
        yield str(row[text]), str(row[label]).strip()


def open_texts(spec: str, *, place: str) -> LabelledTexts:
    """Open what a user wrote, such as `reviews.tsv` or `csv:reviews.csv,text=body,label=stars`.

    Args:
        spec: `KIND:FILE`, settings behind it after commas.
        place: option to name in errors.

    Raises:
        UserError: an unknown kind or setting, or a file that cannot be read.
    """
    kind, _, rest = spec.partition(":")
    if kind not in set(SUFFIXES.values()):
        file, _, _ = spec.partition(",")
        suffix = Path(file).suffix.lower()
        if suffix not in SUFFIXES:
            raise UserError(f"{place}: should be csv:FILE or jsonl:FILE with columns text and label (got {spec!r}).")
        kind, rest = SUFFIXES[suffix], spec
    file, *settings = rest.split(",")
    values: dict[str, Any] = {"kind": kind, "file": file}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in ("text", "label", "separator"):
            raise UserError(f"{place}: {unknown_choice(f'setting of {kind}', key, ('text', 'label', 'separator'))}")
        values[key] = value
    return LabelledTextsConfig.parse(values, place=place).open()
