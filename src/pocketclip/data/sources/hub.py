"""Hugging Face `datasets`: `hub:NAME`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pocketclip.config import digest
from pocketclip.data.identity import UNREADABLE
from pocketclip.data.keys import content_id
from pocketclip.data.left_out import LeftOut
from pocketclip.data.source import Gift, Sample, SourceSettings
from pocketclip.data.sources.delimited import IMAGE_COLUMNS
from pocketclip.data.sources.joined_rows import JoinedRows, JoinedSource, kept_ids
from pocketclip.data.sources.table import Captions, find_captions, find_column
from pocketclip.errors import BrokenItemError, UserError, require


class HubSourceConfig(SourceSettings):
    """`hub:NAME,split=train`."""

    positional: ClassVar[tuple[str, ...]] = ("dataset",)
    gives: ClassVar[frozenset[Gift]] = frozenset({"captions"})
    kind: Literal["hub"] = "hub"
    dataset: str
    """A hub name such as `owner/name`, or a local folder that `datasets` can load."""
    split: str = "train"
    subset: str | None = None
    """A configuration of the data set, where it has several."""
    image: str | None = None
    """Column of the image; None: the first known name, such as `image`."""
    caption: str | None = None
    """Column of the caption(s); None: the first known name, such as `caption`."""

    def read(self) -> "HubSource":
        """Load the data set through the `datasets` library."""
        library = require("datasets", extra="hub")
        try:
            loaded = library.load_dataset(self.dataset, self.subset, split=self.split)
        except Exception as error:  # the library raises many types, some of other libraries
            raise UserError(f"hub:{self.dataset}: cannot load split '{self.split}' ({error}).") from error
        name = f"hub:{self.dataset}#{self.split}"
        return HubSource.from_dataset(loaded, name=name, image=self.image, caption=self.caption)


@dataclass(frozen=True)
class HubSource(JoinedSource):
    """A loaded `datasets.Dataset` with an image column left undecoded."""

    name: str
    dataset: Any
    image: str
    columns: Sequence[str]
    """Those of the captions."""
    rows: JoinedRows
    """Rows of equal pictures are one sample."""
    texts: Sequence[tuple[str, ...]]
    left_out: Sequence[LeftOut] = ()

    @classmethod
    def from_dataset(
        cls, dataset: Any, *, name: str = "hub:memory", image: str | None = None, caption: str | None = None
    ) -> "HubSource":
        """Wrap a data set already in memory."""
        library = require("datasets", extra="hub")
        image = find_column(name, dataset.column_names, "image", image, IMAGE_COLUMNS)
        columns = find_captions(name, dataset.column_names, caption)
        try:
            dataset = dataset.cast_column(image, library.Image(decode=False))
        except Exception as error:  # of pyarrow, which has a dozen types
            message = f"{name}: column '{image}' holds no images; name the right one with image=COLUMN."
            raise UserError(message) from error
        told = Captions(columns)
        rows = enumerate(dataset.select_columns(columns))
        texts = [told.read(row, f"{name}: row {number}") for number, row in rows]
        row_ids = _RowIds(dataset.select_columns([image]))
        ids = kept_ids(
            name, ["hub", dataset._fingerprint, image], len(dataset), iter(row_ids), lambda: row_ids.are_of_bytes
        )
        joined = JoinedRows.by_ids(ids)
        return cls(name, dataset, image, columns, joined, joined.join(texts), told.left_out)

    def sample(self, index: int) -> Sample:
        place = self.place(index)
        stored = self.dataset[int(self.rows.first[index])][self.image]
        split = {"split": str(self.dataset.split)} if self.dataset.split else {}
        return Sample(self.key(index), _bytes(stored, place), self.captions(index), place, metadata=split)

    def place(self, index: int) -> str:
        return f"{self.name}: row {self.rows.first[index]}"

    def stamp(self) -> Any:
        """The `datasets` library's own, which follows every transformation, and the pictures' ids."""
        return [self.dataset._fingerprint, self.image, list(self.columns), digest(self.rows.ids.tolist())]


@dataclass
class _RowIds:
    """The picture's id of each row of a data set with one column."""

    dataset: Any
    are_of_bytes: bool = True
    """Whether no row was met that only names its picture, which may change while the data set stays."""

    def __iter__(self) -> Iterator[int]:
        for row in self.dataset:
            (stored,) = row.values()
            self.are_of_bytes &= not stored or stored.get("bytes") is not None
            try:
                data = _bytes(stored, "")
            except BrokenItemError:
                data = b""
            yield content_id(data) if data else UNREADABLE


def _bytes(stored: Any, place: str) -> bytes:
    """The encoded bytes of an undecoded image."""
    stored = stored or {}
    data = stored.get("bytes")
    if data is None and stored.get("path"):
        try:
            with open(stored["path"], "rb") as file:  # noqa: PTH123 (paths here may be remote-cache handles)
                data = file.read()
        except OSError as error:
            raise BrokenItemError(f"{place}: cannot read {stored['path']} ({error.strerror}).") from error
    return data or b""
