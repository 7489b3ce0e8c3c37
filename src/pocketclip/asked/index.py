"""An index that is asked by sentence or picture: its model is opened when it is first needed."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from pocketclip import search
from pocketclip.asked import library_model, open_model
from pocketclip.bundle import content_digest
from pocketclip.embedder import Embedder
from pocketclip.errors import UserError
from pocketclip.files import files_digest
from pocketclip.inputs import is_array, is_picture, is_text
from pocketclip.search.index import Hit


@dataclass(frozen=True, repr=False, eq=False)
class Index(search.Index):
    """What `pocketclip index` made.

    >>> index = Index.open("index")
    >>> index.search("two dogs in the snow", 5)  # by sentence
    >>> index.search("dog.jpg", 5)  # by picture
    """

    asks: Embedder | str | Path | None = None
    """The model to ask instead of the one at the index's own place for it."""

    @classmethod
    def open(cls, folder: str | Path, *, model: Embedder | str | Path | None = None) -> Self:
        """Read an index.

        Args:
            folder: that `pocketclip index` made.
            model: the one that made the index, where it has been moved, or is open already.

        Raises:
            UserError: there is none, or it is damaged.
        """
        stored = search.Index.open(folder)
        return cls(stored.folder, stored.config, stored.embeddings, stored.items, stored.taken, model)

    def search(self, query: Any, count: int = 10, *, corrected: bool | None = None) -> list[Hit]:
        """The nearest images to a sentence, to a picture (see `Embedder.encode`), or to a (D,) vector; best first.

        Sentences are ranked by scores in which hubs are `corrected`, where the index's model had a bank, unless that is
        False; vectors only where it is True. Scores of hits are cosines either way.

        Raises:
            UserError: there is nothing to search for, or the model is gone or another one by now.
        """
        if is_array(query) and query.ndim == 1:
            return super().search(np.asarray(query, np.float32), count, corrected=corrected)
        if not (is_text(query) or is_picture(query)) or (is_text(query) and not query.strip()):
            raise UserError(f"search: give one sentence or one picture (got {query!r:.60}).")
        if is_picture(query):
            if corrected:
                raise UserError("search: a bank corrects what sentences find, and this searches by a picture.")
            return super().search(self._whole.encode(query)[0], count)
        vector = self.reader.encode(query)[0]
        return super().search(vector, count, corrected=self.taken is not None if corrected is None else corrected)

    def by_picture(self, image: Any, count: int = 10) -> list[Hit]:
        """The nearest images to one picture, whatever its file is called."""
        return super().search(self._whole.encode_image(image)[0], count)

    def bank_remarks(self) -> list[str]:
        """What to know of how sentences are ranked, with the cure: where the model's bank is not the index's."""
        own = self.reader.hubs
        if self.config.hubs == ("" if own is None else own.digest):
            return []
        if not self.config.hubs:
            return [f"Ranked by the cosine, as the index is older than its model's bank. Index again: {self.again}"]
        now = "has none now" if own is None else "has another one now"
        return [f"Ranked by scores that another bank corrected; the model {now}. Index again: {self.again}"]

    @cached_property
    def _whole(self) -> Embedder:
        return self._open(text_only=False)

    @cached_property
    def reader(self) -> Embedder:
        """What encodes sentences: the model's text side alone, which loads in half the time."""
        return self._whole if "_whole" in vars(self) else self._open(text_only=True)

    def _open(self, *, text_only: bool) -> Embedder:
        if isinstance(self.asks, Embedder):
            return self.asks
        place = self.model if self.asks is None else self.asks
        try:
            loaded = open_model(place, text_only=text_only)
            changed = self.config.model_fingerprint not in ("", fingerprint_of(place, loaded))
        except UserError as error:
            raise UserError(
                f"{self.folder}: the model that made this index cannot be opened. {error} If it was moved, say where "
                f"it is: search --model PLACE (in Python model=PLACE). Or index again: {self.again}"
            ) from error
        if changed:
            raise UserError(
                f"{self.folder}: another model made this index than {place} is now. Index again: {self.again}"
            )
        return loaded


def fingerprint_of(model: Path | str, loaded: Embedder) -> str:
    """What changes with the weights and settings of a model that is named so, and not with its folder."""
    library = library_model(model)
    if library is None:
        return content_digest(model)
    text = library.lasting_text()
    local = Path(text[text.find("/") :])  # an absolute path behind whatever names the library
    if "/" not in text or not local.exists():
        return str(loaded.made_from()["model"])
    return files_digest(sorted(path for path in local.rglob("*") if path.is_file()) if local.is_dir() else [local])
