"""A searchable folder of embeddings: exact cosine search with numpy. No torch here.

index.json          which model made it, from what, where, how many
embeddings.npy      (N, D) float32, unit length per row
items.jsonl         one line an image: key, place, captions, file
hubs.npy            (N,) float32 that is taken from each image's score with a sentence, where the model has a bank
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pocketclip.errors import UserError
from pocketclip.files import cannot_write, new_file, no_such, write_atomically
from pocketclip.hubs import Hubs
from pocketclip.records import now
from pocketclip.search.config import LASTING_PLACES, VERSION, IndexConfig, written_model
from pocketclip.search.places import find_again, first_gone, lasting, source_is_gone

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Item:
    """One indexed image."""

    key: str
    place: str
    """The picture's file, or a file and where in it; absolute."""
    captions: list[str]
    file: str = ""
    """The file of `place`; empty where the picture lies in none."""


@dataclass(frozen=True)
class Hit:
    """One search result."""

    score: float
    """Cosine similarity."""
    item: Item
    exists: bool | None = None
    """Whether its file is still there; None of a picture that lies in no file."""
    corrected: float | None = None
    """What it was ranked by, where that is not the cosine."""

    @property
    def place(self) -> str:
        """Where the image lies."""
        return self.item.place

    def to_json(self) -> dict[str, Any]:
        """What `pocketclip search --json` prints."""
        item = self.item
        values = {"score": round(self.score, 4), "key": item.key, "place": item.place, "captions": item.captions}
        corrected = {} if self.corrected is None else {"corrected_score": round(self.corrected, 4)}
        return {**values, "exists": self.exists, **corrected}


@dataclass(frozen=True, repr=False, eq=False)
class Index:
    """Embeddings with what they belong to."""

    folder: Path
    config: IndexConfig
    embeddings: Floats
    items: list[Item]
    taken: Floats | None = None
    """(N,) what corrects each image's score with a sentence (`Hubs.of_images`); None where the model had no bank."""

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({str(self.folder)!r}, num_images={len(self):_}, embed_dim={self.config.embed_dim}, "
            f"source={self.config.source!r}, model={str(self.model)!r})"
        )

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Read an index.

        Raises:
            UserError: there is none, or a part of it is missing, damaged or of a later version.
        """
        folder = Path(folder).expanduser()
        path = folder / "index.json"
        if not path.is_file():
            problem = f"{folder}: no index here." if folder.exists() else str(no_such("folder of an index", folder))
            if (folder / "index" / "index.json").is_file():
                raise UserError(f"{problem} There is one inside: {folder / 'index'}")
            out = shlex.quote(str(folder))
            raise UserError(f"{problem} Make one: pocketclip index FOLDER --model MODEL --out {out}")
        config = IndexConfig.read(path)
        cure = f"Index again: {config.again(folder)}"
        for name in ("embeddings.npy", "items.jsonl", *(["hubs.npy"] if config.hubs else [])):
            if not (folder / name).is_file():
                raise UserError(f"{folder / name}: missing; the index is incomplete. {cure}")
        try:
            embeddings = np.load(folder / "embeddings.npy", mmap_mode="r", allow_pickle=False)
            taken = np.load(folder / "hubs.npy", allow_pickle=False) if config.hubs else None
            text = (folder / "items.jsonl").read_text(encoding="utf-8")
            items = [Item(**json.loads(line)) for line in text.split("\n")[:-1]]  # captions may hold other line ends
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{folder}: the index is damaged ({error}). {cure}") from error
        if len(items) != config.num_images or embeddings.shape != (config.num_images, config.embed_dim):
            raise UserError(f"{folder}: the index is damaged (its files do not fit together). {cure}")
        if taken is not None and not (
            taken.shape == (len(items),) and taken.dtype == np.float32 and np.isfinite(taken).all()
        ):
            raise UserError(f"{folder / 'hubs.npy'}: the index is damaged (no number for each image). {cure}")
        return cls(folder, config, embeddings, items, taken)

    @classmethod
    def write(
        cls,
        folder: Path,
        *,
        model: Path | str,
        source: str,
        embeddings: Floats,
        items: Sequence[Item],
        model_fingerprint: str = "",
        typed_in: str = "",
        hubs: Hubs | None = None,
    ) -> Self:
        """Write an index of N items and their (N, D) embeddings of unit length.

        The model is a bundle's folder, or a name of another library; `hubs` is its bank, where it has one. For other
        settings see `IndexConfig`. `index.json` comes last, so a half-written index is never opened. Who has the index
        of before open, which is mapped into memory, goes on with that.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "index.json").unlink(missing_ok=True)
            (folder / "hubs.npy").unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(folder, error) from error
        embeddings = embeddings.astype(np.float32)
        with new_file(folder / "embeddings.npy") as opened:
            np.save(opened, embeddings)
        if hubs is not None:
            with new_file(folder / "hubs.npy") as opened:
                np.save(opened, hubs.of_images(embeddings))
        kept = (replace(item, place=place, file=file) for item in items for place, file in [lasting(item.place)])
        lines = "".join(f"{json.dumps(asdict(item), ensure_ascii=False)}\n" for item in kept)
        write_atomically(folder / "items.jsonl", lines)
        count, width = embeddings.shape
        config = IndexConfig(
            format_version=LASTING_PLACES if hubs is None else VERSION,
            hubs="" if hubs is None else hubs.digest,
            model=written_model(model, folder),
            model_fingerprint=model_fingerprint,
            source=source,
            typed_in=typed_in,
            written_to=str(folder.absolute()),
            num_images=count,
            embed_dim=width,
            date=now(),
        )
        write_atomically(folder / "index.json", json.dumps(config.model_dump(), indent=2, ensure_ascii=False) + "\n")
        return cls.open(folder)

    @property
    def model(self) -> Path | str:
        """What encodes queries: a bundle's folder, or the name of another library's model."""
        return self.config.model_of(self.folder)

    @property
    def again(self) -> str:
        """The command that makes this index again."""
        return self.config.again(self.folder)

    def search(self, query: Floats, count: int = 10, *, corrected: bool | None = None) -> list[Hit]:
        """The nearest images to a query of unit length, (D,), at most `count`, best first; of equal ones the first.

        A query that is a sentence's may have scores `corrected`, which lets hubs not come first.
        """
        if query.shape != (self.config.embed_dim,):
            raise UserError(
                f"{self.folder}: holds vectors of {self.config.embed_dim} numbers, the query has {query.shape[-1]}; "
                "another model made this index."
            )
        if count < 1:
            raise UserError(f"{self.folder}: count should be at least 1 (got {count}).")
        taken = self.taken if corrected else None
        if corrected and taken is None:
            raise UserError(
                f"{self.folder}: has nothing to correct scores with, as its model had no bank. Make one, and index "
                f"again: pocketclip hubs {shlex.quote(str(self.model))} --data SOURCE"
            )
        cosines = self.embeddings @ query
        ranked = cosines if taken is None else cosines - taken
        ordered = _best(ranked, min(count, len(ranked)))
        hits = [self._hit(float(cosines[number]), self.items[number]) for number in ordered]
        if not corrected:
            return hits
        return [replace(hit, corrected=float(ranked[number])) for hit, number in zip(hits, ordered, strict=True)]

    def _hit(self, score: float, item: Item) -> Hit:
        """With the place where the image is now."""
        if self.config.format_version < LASTING_PLACES:
            return Hit(score, item, exists=bool(lasting(item.place)[1]) or None)
        if not item.file:
            return Hit(score, item)
        found = find_again(item.file, self.config.written_to, self.folder)
        if found is None:
            return Hit(score, item, exists=False)
        return Hit(score, replace(item, place=found + item.place[len(item.file) :], file=found), exists=True)

    def remarks(self, hits: Sequence[Hit]) -> list[str]:
        """What to know of some results, with the cure: pictures that are gone, places that are relative."""
        told = []
        if gone := [hit.item.file for hit in hits if hit.exists is False]:
            outermost = list(dict.fromkeys(map(first_gone, gone)))
            moved = outermost != gone and source_is_gone(self.config.source, self.config.typed_in)
            more = ", ..." if len(outermost) > 1 else ""
            is_are = "is" if len(gone) == 1 else "are"
            told.append(
                f"{len(gone)} of {len(hits)} results {is_are} gone from disk ({outermost[0]}{more}). "
                f"Index again: {self.config.again(self.folder, source_is_gone=moved)}"
            )
        if self.config.format_version < LASTING_PLACES:
            told.append(
                f"{self.folder}: an earlier version made this index; relative places in it start at the folder in "
                f"which that was done. Index again to have them whole: {self.again}"
            )
        return told


def _best(scores: Floats, count: int) -> list[int]:
    """The numbers of the highest scores, best first, of equal ones the first."""
    if count == 0:
        return []
    least = np.partition(scores, -count)[-count]
    chosen = np.flatnonzero(scores >= least)
    best: list[int] = chosen[np.argsort(-scores[chosen], kind="stable")][:count].tolist()
    return best
