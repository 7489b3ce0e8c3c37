"""A table of one's own pictures of people: image, caption, identity and, where there is one, split."""

from pathlib import Path
from typing import ClassVar, Literal

from pocketclip.data.source import Gift, SourceSettings
from pocketclip.data.sources.delimited import IMAGE_COLUMNS, csv_rows
from pocketclip.data.sources.image_files import ImageFiles, locate
from pocketclip.data.sources.people import Described, people_files
from pocketclip.data.sources.table import Captions, cell_name, cell_text, find_captions, find_column
from pocketclip.errors import UserError

IDENTITY_COLUMNS = ("identity", "identity_id", "person_id", "person", "pid", "id", "who")
SPLIT_COLUMNS = ("split", "subset", "set", "partition", "fold")


class PersonTableSourceConfig(SourceSettings):
    """`person_table:FILE.csv,IMAGES_DIR`, a row a picture or a row a caption."""

    positional: ClassVar[tuple[str, ...]] = ("file", "images")
    places: ClassVar[frozenset[str]] = frozenset({"file", "images"})
    gives: ClassVar[frozenset[Gift]] = frozenset({"captions", "identities"})
    kind: Literal["person_table"] = "person_table"
    file: Path
    """CSV or TSV."""
    images: Path | None = None
    """Folder the image names are relative to; None: the table's own folder."""
    split: str | None = None
    """One or more of the table's splits joined by `+`; None: all of it."""
    image: str | None = None
    """Column of the image name; None: the first known name, such as `image` or `filepath`."""
    caption: str | None = None
    """Column of the caption(s), or a pattern of several, such as `caption_*`; None: the first known name."""
    identity: str | None = None
    """Column of who is shown; None: the first known name, such as `identity`, `person_id` or `id`."""
    split_column: str | None = None
    """Column of the split; None: the first known name, such as `split`, where there is one."""
    separator: str = ","
    """Between the columns: a character, `tab` or `comma`; as it is, the one that the header shows."""

    def read(self) -> ImageFiles:
        """Read the table; pictures are read later."""
        file, told, rows = locate(self.file), None, list[Described]()
        for line, row in csv_rows(file, self.separator):
            place = f"{file}: line {line}"
            if told is None:
                image = find_column(file, row, "image", self.image, IMAGE_COLUMNS)
                identity = find_column(file, row, "identity", self.identity, IDENTITY_COLUMNS)
                told, splits = Captions(find_captions(file, row, self.caption)), self._split_column(file, list(row))
            name = cell_name(row[image], place, image)
            if not (who := cell_text(row[identity], place, identity, "identity")):
                raise UserError(f"{place}: column '{identity}' is empty: nobody knows whom {name!r} shows.")
            split = None if splits is None else str(row[splits]).strip()
            wanted = self.split is None or split in self.split.split("+")
            rows.append(Described(name, told.read(row, place) if wanted else [], who, split, place))
        if told is None:
            raise UserError(f"{file}: the table is empty.")
        root = file.parent if self.images is None else locate(self.images)
        name = f"person_table:{self.file}"
        written = (name, "" if self.split is None else f",split={self.split}")
        return people_files(name, file, root, rows, self.split, told.left_out, written)

    def _split_column(self, file: Path, columns: list[str]) -> str | None:
        """The column of the split; None where there is none, and none is asked for."""
        try:
            return find_column(file, columns, "split_column", self.split_column, SPLIT_COLUMNS)
        except UserError:
            if self.split is None and self.split_column is None:
                return None
            raise
