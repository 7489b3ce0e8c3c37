"""Texts with a class each, from a table: what a text tower's own skill is measured on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from pocketclip.config import Config
from pocketclip.data.identity import first_equal
from pocketclip.data.keys import caption_id
from pocketclip.data.labels import Labels, number_texts
from pocketclip.data.sources.delimited import Row, csv_rows, jsonl_rows
from pocketclip.data.sources.image_files import locate
from pocketclip.data.sources.table import find_column
from pocketclip.data.splits import held_out_numbers
from pocketclip.data.written import split_text
from pocketclip.errors import UserError

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
        """Two parts, the same ones on every machine: the larger one, and a share of the texts; of 4 texts at least."""
        same = first_equal(np.array([caption_id(text) for text in self.texts], np.int64))
        rest, held = held_out_numbers(self.name, same, share, "different text(s)", "--train-data a file")
        return self._part(rest, "training part"), self._part(held, "held out")

    def _part(self, chosen: npt.NDArray[np.int64], what: str) -> "LabelledTexts":
        name = f"{self.name} ({what})"
        labels = Labels(name, self.labels.values[chosen], self.labels.names)
        return LabelledTexts(name, tuple(self.texts[number] for number in chosen), labels)


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
    """Between the columns of a CSV: a character, `tab` or `comma`; as it is, the one that the header shows."""

    def open(self) -> LabelledTexts:
        """Read the table; every row needs a text and a class."""
        file = locate(self.file)
        rows = csv_rows(file, self.separator) if self.kind == "csv" else jsonl_rows(file)
        pairs = list(_pairs(rows, file, self.text, self.label))
        if not pairs:
            raise UserError(f"{file}: the table is empty.")
        name = f"{self.kind}:{self.file}"
        texts, classes = zip(*pairs, strict=True)
        return LabelledTexts(name, texts, number_texts(name, classes))


def _pairs(
    rows: Iterator[tuple[int, Row]], file: Path, text: str | None, label: str | None
) -> Iterator[tuple[str, str]]:
    for number, (_, row) in enumerate(rows, start=1):
        place = f"{file}: row {number}"
        text = find_column(file if number == 1 else place, row, "text", text, TEXT_COLUMNS)
        label = find_column(file if number == 1 else place, row, "label", label, LABEL_COLUMNS)
        for column in (text, label):
            if row[column] is None or not str(row[column]).strip():
                raise UserError(f"{place}: column '{column}' is empty; every text needs its class.")
        yield str(row[text]), str(row[label]).strip()


def open_texts(spec: str, *, place: str) -> LabelledTexts:
    """Open what a user wrote behind the option `place`: `reviews.tsv`, or `csv:reviews.csv,text=body,label=stars`."""
    kinds = dict.fromkeys(SUFFIXES.values(), LabelledTextsConfig)
    if spec.partition(":")[0] not in kinds:
        suffix = Path(spec.partition(",")[0].lower().removesuffix(".gz")).suffix
        if suffix not in SUFFIXES:
            raise UserError(f"{place}: should be csv:FILE or jsonl:FILE with columns text and label (got {spec!r}).")
        spec = f"{SUFFIXES[suffix]}:{spec}"
    try:
        values = split_text(spec, kinds)
    except ValueError as error:
        raise UserError(f"{place}: {error}") from None
    return LabelledTextsConfig.parse(values, place=place).open()
