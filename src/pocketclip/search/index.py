"""A searchable folder of embeddings: exact cosine search with numpy. No torch here.

index.json          which model made it, from what, how many
embeddings.npy      (N, D) float32, unit length per row
items.jsonl         one line an image: key, place, captions
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from pocketclip.config import Config
from pocketclip.errors import UserError
from pocketclip.files import cannot_write, write_atomically
from pocketclip.records import now

Floats = npt.NDArray[np.float32]
_LIBRARY = re.compile(r"[\w-]{2,}:")


class IndexConfig(Config):
    """The content of `index.json`."""

    format_version: int = 1
    model: str
    """What made the embeddings: a bundle, whose relative path starts at the index's folder, or `LIBRARY:NAME`."""
    source: str
    num_images: int
    embed_dim: int
    date: str


@dataclass(frozen=True)
class Item:
    """One indexed image."""

    key: str
    place: str
    captions: list[str]


@dataclass(frozen=True)
class Hit:
    """One search result."""

    score: float
    """Cosine similarity."""
    item: Item


@dataclass(frozen=True)
class Index:
    """Embeddings with what they belong to."""

    folder: Path
    config: IndexConfig
    embeddings: Floats
    items: list[Item]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read an index."""
        path = folder / "index.json"
        if not path.is_file():
            raise UserError(f"{folder}: no index here. Make one: pocketclip index FOLDER --model MODEL --out {folder}")
        try:
            config = IndexConfig.parse(json.loads(path.read_text(encoding="utf-8")), place=str(path))
            embeddings = np.load(folder / "embeddings.npy", mmap_mode="r", allow_pickle=False)
            text = (folder / "items.jsonl").read_text(encoding="utf-8")
            items = [Item(**json.loads(line)) for line in text.split("\n")[:-1]]  # captions may hold other line ends
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{folder}: the index is damaged ({error}). Make it again.") from error
        if not len(items) == len(embeddings) == config.num_images:
            raise UserError(f"{folder}: the index is damaged (its files do not fit together). Make it again.")
        return cls(folder, config, embeddings, items)

    @classmethod
    def write(cls, folder: Path, *, model: Path | str, source: str, embeddings: Floats, items: Sequence[Item]) -> Self:
        """Write an index of N items and their (N, D) embeddings of unit length; `source` is for people to read.

        The model is a bundle's folder, or a name of another library. `index.json` comes last, so a half-written index
        is never opened.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "index.json").unlink(missing_ok=True)
            with (folder / "embeddings.npy").open("wb") as file:
                np.save(file, embeddings.astype(np.float32))
        except OSError as error:
            raise cannot_write(folder, error) from error
        lines = "".join(f"{json.dumps(asdict(item), ensure_ascii=False)}\n" for item in items)
        write_atomically(folder / "items.jsonl", lines)
        if isinstance(model, Path):  # the way from here to the bundle, which no library's name looks like
            way = os.path.relpath(model, folder)
            model = f"./{way}" if _LIBRARY.match(way) else way
        count, width = embeddings.shape
        config = IndexConfig(model=model, source=source, num_images=count, embed_dim=width, date=now())
        write_atomically(folder / "index.json", json.dumps(config.model_dump(), indent=2, ensure_ascii=False) + "\n")
        return cls.open(folder)

    @property
    def model(self) -> Path | str:
        """What encodes queries: a bundle's folder, or the name of another library's model."""
        if _LIBRARY.match(self.config.model):
            return self.config.model
        return Path(os.path.normpath(self.folder / self.config.model))

    def search(self, query: Floats, count: int) -> list[Hit]:
        """The nearest images to a query of unit length, (D,), at most `count`."""
        if query.shape != (self.config.embed_dim,):
            raise UserError(
                f"{self.folder}: holds vectors of {self.config.embed_dim} numbers, the query has {query.shape[-1]}; "
                "another model made this index."
            )
        scores = self.embeddings @ query
        count = min(count, len(scores))
        nearest = np.argpartition(-scores, count - 1)[:count] if count else np.zeros(0, np.int64)
        ordered = sorted(nearest, key=lambda number: (-scores[number], number))
        return [Hit(float(scores[number]), self.items[number]) for number in ordered]
