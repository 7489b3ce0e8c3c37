"""Tables of image and caption: CSV (and TSV), JSON lines, Parquet.

Rows of the same picture are joined, so one row per caption and one row per image both work. A Parquet image column may
hold the encoded bytes themselves, as Hugging Face writes them.
"""

import operator
import re
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from pocketclip.data.captions import is_empty_word, parse_captions
from pocketclip.data.left_out import LeftOut
from pocketclip.data.source import Gift, Source, SourceSettings
from pocketclip.data.sources.delimited import CAPTION_COLUMNS, IMAGE_COLUMNS, Row, csv_rows, jsonl_rows
from pocketclip.data.sources.image_files import ImageFiles, locate
from pocketclip.data.sources.parquet import Parquet, ParquetImages
from pocketclip.data.written import Names
from pocketclip.errors import BrokenItemError, UserError

ADDRESS = re.compile(r"(https?|s3|gs|ftp)://", re.IGNORECASE)


class TableSourceConfig(SourceSettings):
    """`csv:FILE`, `jsonl:FILE` or `parquet:FILE`."""

    positional: ClassVar[tuple[str, ...]] = ("file", "images")
    places: ClassVar[frozenset[str]] = frozenset({"file", "images"})
    kind: Literal["csv", "jsonl", "parquet"]
    file: Path
    """The table; for Parquet also a folder of them or a pattern such as `data/*.parquet`."""
    images: Path | None = None
    """Folder the image names are relative to, and may not leave; None: the table's own folder."""
    image: str | None = None
    """Column of the image name; None: the first known name, such as `image` or `filepath`."""
    caption: str | None = None
    """Column of the caption(s), or a pattern of several, such as `caption_*`; None: the first known name."""
    separator: str = ","
    """Between the columns of a CSV: a character, `tab` or `comma`; as it is, the one that the header shows."""

    label: str | None = None
    """Column of the class, a number or a name; None: images have no class."""
    identity: Annotated[str | None, Field(exclude_if=operator.not_)] = None
    """Column of who or what is shown, where several pictures show the same; None: that is not told."""
    metadata: Annotated[Names, Field(exclude_if=operator.not_)] = ()
    """Columns whose values belong to the pictures, such as `region+country`, for scores group by group."""

    @property
    def gives(self) -> frozenset[Gift]:
        """What the opened source gives."""
        shown: set[Gift] = set() if self.identity is None else {"identities"}
        classes: set[Gift] = set() if self.label is None else {"classes"}
        return frozenset[Gift]({"captions"}) | classes | shown

    @model_serializer(mode="wrap")
    def _without_label(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A table without classes has the fingerprint that it had before there were any."""
        values: dict[str, Any] = handler(self)
        return values if self.label is not None else {key: value for key, value in values.items() if key != "label"}

    def read(self) -> Source:
        """Read the table; pictures are read later."""
        name = f"{self.kind}:{self.file}"
        if self.kind == "parquet":
            table = Parquet.open(self.file)
            image = find_column(table.file, table.columns, "image", self.image, IMAGE_COLUMNS)
            captions = self._captions(table.file, table.columns)
            label = [] if self.label is None else [find_column(table.file, table.columns, "label", self.label, ())]
            further = [find_column(table.file, table.columns, "metadata", column, ()) for column in self.metadata]
            shown = [] if self.identity is None else [find_column(table.file, table.columns, "identity", self.identity)]
            columns = [*captions, *label, *further, *shown]
            if table.holds_bytes(image):
                told = Captions(captions)
                texts, labels, values, own = list[list[str]](), list[str](), list[Row](), list[str | None]()
                for place, row in table.rows(columns):
                    texts.append(told.read(row, place))
                    labels += [cell_text(row[column], place, column) for column in label]
                    own += [cell_text(row[column], place, column, "identity") or None for column in shown]
                    values += [{column: _plain(row[column], place, column) for column in further}] if further else []
                if not texts:
                    raise UserError(f"{table.file}: the table is empty.")
                of_rows = labels if label else None
                return ParquetImages.joined(name, table, image, texts, told.left_out, self.images, of_rows, values, own)
            return self._files(table.rows([image, *columns]), table.file, name)
        file = locate(self.file)
        rows = csv_rows(file, self.separator) if self.kind == "csv" else jsonl_rows(file)
        return self._files(((f"{file}: line {line}", row) for line, row in rows), file, name)

    def _captions(self, place: Path | str, columns: Collection[str]) -> list[str]:
        """The columns of captions; a table of classes or identities may have none."""
        try:
            return find_captions(place, columns, self.caption)
        except UserError:
            if (self.label is None and self.identity is None) or self.caption is not None:
                raise
            return []

    def _files(self, rows: Iterable[tuple[str, Row]], file: Path, name: str) -> ImageFiles:
        """Captions by picture, both in the order of the table."""
        grouped: dict[str, list[str]] = {}
        classes: dict[str, str] = {}
        shown: dict[str, str | None] = {}
        metadata: dict[str, Row] = {}
        told: Captions | None = None
        image = self.image
        for number, (place, row) in enumerate(rows, start=1):
            where = str(file) if told is None else f"{file}: row {number}"
            image = find_column(where, row, "image", image, IMAGE_COLUMNS)
            if told is None:
                told = Captions(self._captions(where, row))
            for column in told.columns:
                find_column(where, row, "caption", column, ())
            picture = cell_name(row[image], place, image)
            grouped.setdefault(picture, []).extend(told.read(row, place))
            if self.label is not None:
                found = cell_text(row[find_column(where, row, "label", self.label, ())], place, self.label)
                if classes.setdefault(picture, found) != found:
                    raise UserError(f"{place}: {picture} is of class {found!r} here and {classes[picture]!r} above.")
            if self.identity is not None:
                column = find_column(where, row, "identity", self.identity)
                who = cell_text(row[column], place, column, "identity")
                if shown.setdefault(picture, who or None) != (who or None):
                    raise UserError(f"{place}: {picture} shows {who!r} here and {shown[picture]!r} above.")
            if self.metadata:
                columns = [find_column(where, row, "metadata", column, ()) for column in self.metadata]
                own = {column: _plain(row[column], place, column) for column in columns}
                if metadata.setdefault(picture, own) != own:
                    raise UserError(f"{place}: {picture} is {_shown(own)} here and {_shown(metadata[picture])} above.")
        if told is None:
            raise UserError(f"{file}: the table is empty.")
        root = file.parent if self.images is None else locate(self.images)
        of_pictures = None if self.label is None else classes
        return ImageFiles.annotated(
            name,
            file,
            root,
            grouped,
            told.left_out,
            written=(name, ""),
            metadata=metadata,
            classes=of_pictures,
            identities=shown or None,
        )


class Captions:
    """The captions of rows by type, and a count of the empty words among them."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns, self._count, self._first = columns, 0, list[str]()

    def read(self, row: Row, place: str) -> list[str]:
        """A row's captions without empty words; a UserError names place and type where there is something else."""
        texts: list[str] = []
        if not self.columns:
            return texts
        for column in self.columns:
            try:
                texts += parse_captions(row[column], place=place)
            except BrokenItemError as error:
                raise UserError(f"{error} (column '{column}')") from error
        kept = [text for text in texts if not is_empty_word(text)]
        if len(kept) < len(texts) or not texts:
            self._count += max(1, len(texts) - len(kept))
            self._first = [*self._first, place][:3]
        return kept

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The empty words, where there are some."""
        what = "empty captions (such as NaN, null, None, N/A) passed over"
        return (LeftOut(what, self._count, tuple(self._first)),) if self._count else ()


def find_column(
    place: Path | str, columns: Collection[str], role: str, wanted: str | None, known: Sequence[str] = ()
) -> str:
    """The column that plays a role, which is also the setting that names it: `wanted`, or the first of `known` there.

    Known names are found in any letter case. A UserError names the file or row, `place`, and all columns where there
    is none.
    """
    if wanted is not None and wanted in columns:
        return wanted
    spelled = {column.strip().lower(): column for column in reversed(list(columns))}
    for name in known if wanted is None else ():
        if name in columns or name in spelled:
            return name if name in columns else spelled[name]
    missing = f"column '{wanted}'" if wanted else f"column that looks like the {role}"
    listed = ", ".join(columns) or "none"
    raise UserError(f"{place}: no {missing}. Columns: {listed}. Name the right one with {role}=COLUMN.")


def find_captions(place: Path | str, columns: Collection[str], wanted: str | None) -> list[str]:
    """The columns of captions: the one named, those of a pattern, the first known one, or numbered ones."""
    if wanted is not None and wanted not in columns:
        found = [column for column in columns if fnmatchcase(column, wanted)]
        if found:
            return found
    known = {column.strip().lower() for column in columns} & set(CAPTION_COLUMNS)
    numbered = [name for name in columns if re.fullmatch(r"(caption|text|sentence|comment)s?[ _-]?\d+", name.lower())]
    if wanted is None and not known and numbered:
        return numbered
    return [find_column(place, columns, "caption", wanted, CAPTION_COLUMNS)]


def cell_text(value: object, place: str, column: str, role: str = "label") -> str:
    """A picture's class in a row, as text, or who it shows; empty where it has none."""
    if isinstance(value, float) and value.is_integer():  # a column of numbers with gaps
        value = int(value)
    if value is None or value != value:
        return ""
    if isinstance(value, (dict, list, bytes, bool, float)) or (isinstance(value, int) and value < -1):
        raise UserError(f"{place}: column '{column}' holds no {role} but {str(value)[:60]!r}; set {role}=COLUMN.")
    text = str(value).strip()
    return "" if text == "-1" else text


def _plain(value: object, place: str, column: str) -> object:
    """A value as JSON has it, None for that of an empty cell."""
    if isinstance(value, (dict, list, bytes)):
        raise UserError(f"{place}: column '{column}' holds no name or number but {str(value)[:60]!r}.")
    if value is None or value != value:
        return None
    return value if isinstance(value, (str, int, float)) else str(value)


def _shown(values: Row) -> str:
    return ", ".join(f"{column} {value}" for column, value in values.items())


def cell_name(value: object, place: str, column: str) -> str:
    """A picture's name in a row."""
    if isinstance(value, (dict, list, bytes, bool, float)) or value is None:
        raise UserError(f"{place}: column '{column}' holds no file name but {str(value)[:60]!r}; set image=COLUMN.")
    name = str(value).strip()
    if ADDRESS.match(name):
        raise UserError(
            f"{place}: column '{column}' holds addresses ({name[:80]}), and pictures are read from disk. Fetch them "
            f"first: img2dataset --url_list FILE --url_col {column} --caption_col CAPTION --output_format webdataset "
            "--output_folder shards, then give webdataset:shards"
        )
    return name
