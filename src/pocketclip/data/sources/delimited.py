"""Rows of text tables: CSV with whatever separator its header shows, TSV, JSON lines; each with its line."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pocketclip.data.sources.image_files import read_text
from pocketclip.errors import UserError
from pocketclip.preprocess import IMAGE_SUFFIXES

IMAGE_COLUMNS = (
    *("image", "file_name", "filename", "filepath", "image_path", "image_file", "path", "image_name", "jpg"),
    *("image_id", "url", "image_url"),
)
CAPTION_COLUMNS = ("captions", "caption", "text", "title", "sentence", "sentences", "comment", "txt", "raw")
Row = dict[str, Any]
LONGEST_FIELD = 1 << 24
"""Bytes; the csv module's own 128 KiB refuse long captions. It is set for the whole process."""
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_WORDS = {"tab": "\t", "comma": ","}
"""Separators that a command line cannot spell."""


def csv_rows(file: Path, separator: str = ",") -> Iterator[tuple[int, Row]]:
    """Line and values by column of each row; a `separator` of `,` is the one that the header shows, see `_WORDS`."""
    if separator not in _WORDS and len(separator) != 1:
        raise UserError(f"{file}: separator should be one character, or tab, or comma (got {separator!r}).")
    text = read_text(file)
    delimiter = _found_separator(file, text) if separator == "," else _WORDS.get(separator, separator)
    lines = _lenient_rows(text, delimiter) if delimiter in "\t|" else _quoted_rows(file, text, delimiter)
    columns: list[str] | None = None
    for line, values in lines:
        place = f"{file}: line {line}"
        if columns is None:
            columns = _header(file, line, values, delimiter)
            continue
        if any(values[len(columns) :]):
            raise UserError(
                f"{place}: more values than columns; quote a caption that holds {delimiter!r}, "
                "or set the right separator=CHARACTER."
            )
        if columns[-2:] == ["comment_number", "comment"] and len(values) == len(columns) - 1:
            values[-1:] = values[-1].split(maxsplit=1)  # one line of Flickr30k's own table lacks this separator
        if len(values) < len(columns):
            raise UserError(f"{place}: fewer values than columns ({', '.join(columns)}).")
        yield line, dict(zip(columns, values, strict=False))


def _found_separator(file: Path, text: str) -> str:
    """The separator under which the header has known columns, or the only one it holds; else that of the suffix."""
    header = next((line for line in text.split("\n") if line.strip()), "")
    known = {*IMAGE_COLUMNS, *CAPTION_COLUMNS}
    there = [separator for separator in SEPARATORS if separator in header]
    named = {sign: sum(_plain(cell) in known for cell in header.split(sign)) for sign in there}
    best = [sign for sign in there if named[sign] == max(named.values())]
    if len(best) == 1:
        return best[0]
    return "\t" if ".tsv" in [suffix.lower() for suffix in file.suffixes] else ","


def columns_of(header: str) -> list[str]:
    """The names in a header in small letters, by the separator that shows the most known ones."""
    known = {*IMAGE_COLUMNS, *CAPTION_COLUMNS}
    cut = ([_plain(cell) for cell in header.split(sign)] for sign in SEPARATORS)
    return max(cut, key=lambda names: sum(name in known for name in names))


def _plain(name: str) -> str:
    return name.strip().strip('"').strip().lower()


def _header(file: Path, line: int, values: list[str], delimiter: str) -> list[str]:
    """The names of the columns; twice the same, or a picture where a name should be, is a UserError."""
    columns = [value.strip() for value in values]
    while columns and not columns[-1]:
        columns.pop()
    pictures = [number for number, name in enumerate(columns) if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    if pictures:
        names = [f"column{number}" for number in range(len(columns))]
        others = [number for number in range(len(columns)) if number not in pictures]
        names[pictures[0]] = "image"
        if others:
            names[max(others, key=lambda number: len(columns[number]))] = "caption"
        header = delimiter.join(names).replace("\t", "\\t")
        raise UserError(
            f"{file}: line {line}: no header: {columns[pictures[0]]!r} is a picture, not the name of a column. "
            f"Put one in: sed -i '1i {header}' '{file}'"
        )
    refuse_twice(f"{file}: line {line}", columns)
    return columns


def refuse_twice(place: str, columns: list[str]) -> None:
    """A UserError where two columns have one name."""
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise UserError(f"{place}: column {', '.join(map(repr, twice))} is there twice; rename one of the two.")


def _quoted_rows(file: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows as the csv module reads them, where a quoted field has to close; only line feeds end a line."""
    csv.field_size_limit(LONGEST_FIELD)
    lines = io.StringIO(text.replace("\r\n", "\n"), newline="\n")
    reader, start = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True), 1
    try:
        for values in reader:
            if values:
                yield start, values
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{file}: line {start}: not valid CSV ({error}). A caption that begins with a quote has to end with one, "
            "and a quote inside is written twice."
        ) from error


def _lenient_rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows where a quote is a character, unless it opens a field and closes it right before its end.

    A quoted field may go over several lines if it holds no separator: else a lone quote would swallow rows.
    """
    sign = re.escape(delimiter)
    end = rf"(?={sign}|\n|\Z)"
    field = re.compile(rf' *("(?:[^"\n]|"")*+"{end}|"(?:[^"{sign}]|"")*+"{end}|[^{sign}\n]*)')
    text, place, line = text.replace("\r\n", "\n"), 0, 1
    while place < len(text):
        values, start = [], line
        while True:
            match = field.match(text, place)
            assert match is not None  # the last choice is always there
            value = match[1]
            line += value.count("\n")
            quoted = len(value) > 1 and value[0] == value[-1] == '"'
            values.append(value[1:-1].replace('""', '"') if quoted else value)
            place = match.end()
            if place >= len(text) or text[place] == "\n":
                break
            place += 1
        place, line = place + 1, line + 1
        if any(values):
            yield start, values


def jsonl_rows(file: Path) -> Iterator[tuple[int, Row]]:
    """Line and object of a file of JSON lines; empty lines are passed over."""
    for number, line in enumerate(read_text(file).split("\n"), start=1):  # splitlines also cuts inside a JSON text
        if not line.strip():
            continue
        place = f"{file}: line {number}"

        def unique(pairs: list[tuple[str, Any]], place: str = place) -> Row:
            refuse_twice(place, [name for name, _ in pairs])
            return dict(pairs)

        try:
            row = json.loads(line, object_pairs_hook=unique)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place}: not valid JSON ({error}).") from error
        if not isinstance(row, dict):
            raise UserError(f"{place}: should be a JSON object (got {line[:60]}).")
        yield number, row
