"""Tables of image and caption: CSV (and TSV), JSON lines, Parquet.

Rows of the same image are joined, so one row per caption and one row per image both work. A Parquet image column may
hold the encoded bytes themselves, as Hugging Face writes them.
"""

import csv
import io
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pocketclip.data.captions import clean_captions
from pocketclip.data.source import Gift, Sample, Source, SourceSettings
from pocketclip.data.sources.image_files import ImageFiles, file_stamp, locate, read_text
from pocketclip.errors import BrokenItemError, UserError, require

IMAGE_COLUMNS = ("image", "file_name", "filename", "filepath", "image_path", "path", "image_name", "jpg")
CAPTION_COLUMNS = ("captions", "caption", "text", "title", "sentence", "comment", "txt")
Row = dict[str, Any]


class TableSourceConfig(SourceSettings):
    """`csv:FILE`, `jsonl:FILE` or `parquet:FILE`."""

    positional: ClassVar[tuple[str, ...]] = ("file", "images")
    places: ClassVar[frozenset[str]] = frozenset({"file", "images"})
    gives: ClassVar[frozenset[Gift]] = frozenset({"captions"})
    kind: Literal["csv", "jsonl", "parquet"]
    file: Path
    images: Path | None = None
    """Folder the image names are relative to, and may not leave; None: the table's own folder."""
    image: str | None = None
    """Column of the image name; None: the first known name, such as `image` or `filepath`."""
    caption: str | None = None
    """Column of the caption(s); None: the first known name, such as `caption` or `title`."""
    separator: str = ","
    """Between the columns of a CSV; `tab` for a tab."""

    def read(self) -> Source:
        """Read the table; pictures are read later."""
        file, name = locate(self.file), f"{self.kind}:{self.file}"
        if self.kind == "parquet":
            return _open_parquet(self, file, name)
        rows = csv_rows(file, self.separator) if self.kind == "csv" else jsonl_rows(file)
        return _image_files(self, rows, file, name, self.image, self.caption)


def csv_rows(file: Path, separator: str) -> Iterator[Row]:
    """The rows of a CSV by column, as its header says; `separator` is `tab` for a tab, as in every `.tsv`."""
    delimiter = "\t" if separator == "tab" or file.suffix == ".tsv" else separator
    if len(delimiter) != 1:
        raise UserError(f"{file}: separator should be one character, or tab (got {separator!r}).")
    csv.field_size_limit(1 << 24)  # the default of 128 KiB refuses long captions
    reader = csv.DictReader(io.StringIO(read_text(file), newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        for row in reader:
            place = f"{file}: line {reader.line_num}"
            if any(row.pop(None, ())):
                raise UserError(f"{place}: more values than columns; quote a caption that holds {delimiter!r}.")
            if None in row.values():
                raise UserError(f"{place}: fewer values than columns ({', '.join(row)}).")
            yield {key.strip(): value for key, value in row.items()}
    except csv.Error as error:
        raise UserError(f"{file}: line {reader.line_num}: not valid CSV ({error}).") from error


def jsonl_rows(file: Path) -> Iterator[Row]:
    """The objects of a file of JSON lines; empty lines are passed over."""
    for number, line in enumerate(read_text(file).split("\n"), start=1):  # splitlines also cuts inside a JSON text
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{file}: line {number}: not valid JSON ({error}).") from error
        if not isinstance(row, dict):
            raise UserError(f"{file}: line {number}: should be a JSON object (got {line[:60]}).")
        yield row


def _image_files(
    config: TableSourceConfig, rows: Iterable[Row], file: Path, name: str, image: str | None, caption: str | None
) -> ImageFiles:
    """Captions by image, both in the order of the table."""
    grouped: dict[str, list[str]] = {}
    for number, row in enumerate(rows, start=1):
        place = file if number == 1 else f"{file}: row {number}"
        image = find_column(place, row, "image", image, IMAGE_COLUMNS)
        caption = find_column(place, row, "caption", caption, CAPTION_COLUMNS)
        grouped.setdefault(str(row[image]).strip(), []).extend(_texts(row[caption]))
    if not grouped:
        raise UserError(f"{file}: the table is empty.")
    return ImageFiles.annotated(name, file, file.parent if config.images is None else locate(config.images), grouped)


def find_column(
    place: Path | str, columns: Collection[str], role: str, wanted: str | None, known: Sequence[str]
) -> str:
    """The column that plays a role, which is also the setting that names it: `wanted`, or the first of `known` there.

    A UserError names the file or row, `place`, and all columns where there is none.
    """
    for name in known if wanted is None else [wanted]:
        if name in columns:
            return name
    missing = f"column '{wanted}'" if wanted else f"column that looks like the {role}"
    listed = ", ".join(columns) or "none"
    raise UserError(f"{place}: no {missing}. Columns: {listed}. Name the right one with {role}=COLUMN.")


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(text) for text in value if text is not None] if isinstance(value, (list, tuple)) else [str(value)]


def _open_parquet(config: TableSourceConfig, file: Path, name: str) -> Source:
    parquet = require("pyarrow.parquet", extra="parquet")
    if not file.is_file():
        raise UserError(f"{file}: no such file.")
    try:
        table = parquet.ParquetFile(file)
    except Exception as error:  # pyarrow has its own family of errors
        raise UserError(f"{file}: not a Parquet file ({error}).") from error
    columns = dict.fromkeys(table.schema_arrow.names)
    image = find_column(file, columns, "image", config.image, IMAGE_COLUMNS)
    caption = find_column(file, columns, "caption", config.caption, CAPTION_COLUMNS)
    field = table.schema_arrow.field(image).type
    if str(field).startswith(("struct", "binary", "large_binary")):
        captions = [tuple(_texts(row[caption])) for row in _parquet_rows(file, table, [caption])]
        if not captions:
            raise UserError(f"{file}: the table is empty.")
        sizes = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
        return ParquetImages(name, file, image, captions, sizes)
    return _image_files(config, _parquet_rows(file, table, [image, caption]), file, name, image, caption)


def _parquet_rows(file: Path, table: Any, columns: list[str]) -> Iterator[Row]:
    try:
        for batch in table.iter_batches(columns=columns, batch_size=4096):
            yield from batch.to_pylist()
    except Exception as error:
        raise UserError(f"{file}: damaged in the columns {', '.join(columns)} ({error}).") from error


@dataclass
class ParquetImages(Source):
    """Pictures stored inside a Parquet file, one row an image; one row group is held in memory at a time."""

    name: str
    file: Path
    column: str
    texts: Sequence[tuple[str, ...]]
    group_sizes: Sequence[int]
    _held: tuple[int, Any] = (-1, None)
    """Number and images of the row group read last."""

    def __len__(self) -> int:
        return len(self.texts)

    def sample(self, index: int) -> Sample:
        group, offset = 0, index
        while offset >= self.group_sizes[group]:
            offset -= self.group_sizes[group]
            group += 1
        held = self._held  # read and set as a whole: several threads may be here at once
        if held[0] != group:
            self._held = held = (group, self._read_group(group))
        value = held[1][offset].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        return Sample(f"{index:08d}", data or b"", self.captions(index), self.place(index))

    def _read_group(self, group: int) -> Any:
        parquet = require("pyarrow.parquet", extra="parquet")
        try:
            return parquet.ParquetFile(self.file).read_row_group(group, columns=[self.column]).column(0)
        except Exception as error:
            raise BrokenItemError(f"{self.file}: row group {group} is damaged ({error}).") from error

    def place(self, index: int) -> str:
        return f"{self.file}: row {index}"

    def captions(self, index: int) -> tuple[str, ...]:
        return clean_captions(self.texts[index])

    def stamp(self) -> Any:
        return [file_stamp(self.file), list(self.texts)]
