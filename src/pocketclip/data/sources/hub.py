"""Hugging Face `datasets`: `hub:NAME`."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pocketclip.data.captions import clean_captions
from pocketclip.data.source import Gift, Sample, Source, SourceSettings
from pocketclip.data.sources.table import CAPTION_COLUMNS, IMAGE_COLUMNS, find_column
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
class HubSource(Source):
    """A loaded `datasets.Dataset` with an image column left undecoded."""

    name: str
    dataset: Any
    image: str
    caption: str

    @classmethod
    def from_dataset(
        cls, dataset: Any, *, name: str = "hub:memory", image: str | None = None, caption: str | None = None
    ) -> "HubSource":
        """Wrap a data set already in memory."""
        library = require("datasets", extra="hub")
        image = find_column(name, dataset.column_names, "image", image, IMAGE_COLUMNS)
        caption = find_column(name, dataset.column_names, "caption", caption, CAPTION_COLUMNS)
        try:
            dataset = dataset.cast_column(image, library.Image(decode=False))
        except Exception as error:  # of pyarrow, which has a dozen types
            message = f"{name}: column '{image}' holds no images; name the right one with image=COLUMN."
            raise UserError(message) from error
        return cls(name, dataset, image, caption)

    def __len__(self) -> int:
        return len(self.dataset)

    def sample(self, index: int) -> Sample:
        row = self.dataset[index]
        place = self.place(index)
        stored = row[self.image] or {}
        data = stored.get("bytes")
        if data is None and stored.get("path"):
            try:
                with open(stored["path"], "rb") as file:  # noqa: PTH123 (paths here may be remote-cache handles)
                    data = file.read()
            except OSError as error:
                raise BrokenItemError(f"{place}: cannot read {stored['path']} ({error.strerror}).") from error
        return Sample(f"{index:08d}", data or b"", self._texts(row[self.caption]), place)

    def place(self, index: int) -> str:
        return f"{self.name}: row {index}"

    def captions(self, index: int) -> tuple[str, ...]:
        """One row's captions; the image column is not touched."""
        return self._texts(self.dataset.select_columns([self.caption])[index][self.caption])

    def stamp(self) -> Any:
        """The `datasets` library's own, which follows every transformation."""
        return [self.dataset._fingerprint, self.image, self.caption]

    def _texts(self, value: Any) -> tuple[str, ...]:
        texts = [text for text in (value if isinstance(value, list) else [value]) if text is not None]
        if not all(isinstance(text, str) for text in texts):
            raise UserError(
                f"{self.name}: column '{self.caption}' holds no caption but {str(value)[:60]!r}; "
                "name the right one with caption=COLUMN."
            )
        return clean_captions(texts)
