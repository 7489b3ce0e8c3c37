"""Which samples of which sources are written, and with which captions, and the stage that writes them as shards."""

import contextlib
import functools
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pocketclip.curate.clean import CleanConfig, clean_image
from pocketclip.data import open_source
from pocketclip.data.shards import add_sample, new_shard
from pocketclip.data.source import Sample, Source
from pocketclip.errors import BrokenItemError
from pocketclip.files import write_atomically
from pocketclip.stages.store import Block, Stage

Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Selection:
    """Samples in the order in which they are written."""

    sources: Integers
    """(n,), number of the source each sample is from."""
    indices: Integers
    """(n,), its number there."""
    counts: Integers
    """(n,), its captions that were judged one by one; with 0 it has all that it has in the source."""
    captions: Mask
    """(q,), which of the judged captions stay."""
    joined_counts: Integers
    """(n,), duplicates whose captions it gets as well."""
    joined: Integers
    """(j, 2), source and number of those duplicates."""

    def __len__(self) -> int:
        return len(self.indices)

    def sample(self, number: int, sources: Sequence[Source]) -> Sample:
        """Read one of the samples, with the captions that stay and those of its duplicates behind them."""
        sample = sources[int(self.sources[number])][int(self.indices[number])]
        captions = list(sample.captions)
        if self.counts[number]:
            edges, _ = self._edges
            stays = self.captions[edges[number] : edges[number + 1]]
            captions = [text for text, stay in zip(captions, stays, strict=True) if stay]
        for source, index in self.joined_to(number):
            with contextlib.suppress(BrokenItemError):
                captions += sources[source].captions(index)
        return replace(sample, captions=tuple(captions))

    def joined_to(self, number: int) -> list[tuple[int, int]]:
        """Source and number of the duplicates whose captions one of the samples gets."""
        _, edges = self._edges
        return [(int(source), int(index)) for source, index in self.joined[edges[number] : edges[number + 1]]]

    @functools.cached_property
    def _edges(self) -> tuple[Integers, Integers]:
        """Where each sample's judged captions and duplicates begin, and behind them the end of the last."""
        captions, joined = (np.concatenate([[0], np.cumsum(part)]) for part in (self.counts, self.joined_counts))
        return captions, joined

    def save(self, file: Path) -> None:
        """Write an .npz file, the same bytes for the same selection."""
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **{field.name: getattr(self, field.name) for field in fields(self)})
        write_atomically(file, buffer.getvalue())

    @classmethod
    def load(cls, file: Path) -> Self:
        """What `save` wrote."""
        with np.load(file, allow_pickle=False) as arrays:
            return cls(**arrays)


def opened(source: Source | str) -> Source:
    """A source that is open already, or opened by what a user writes, as another process has to."""
    return open_source(source, place="SOURCE") if isinstance(source, str) else source


def open_writing(
    places: Sequence[Source | str],
    file: Path,
    shards: Path,
    size: int,
    asked: dict[str, Any],
    clean: CleanConfig | None,
) -> Stage:
    """The stage that writes the selection in `file` as SHARDS-000000.tar, ...: `counts` is what went into each.

    `size` is of a shard, and `asked` what the user asked for: it names the difference where blocks of something else
    are there. For `clean` see `_write_shard`.
    """
    sources, selection = [opened(place) for place in places], Selection.load(file)

    def compute(start: int, stop: int) -> Block:
        path = shards.with_name(f"{shards.name}-{start // size:06d}.tar")
        return _write_shard(sources, selection, range(start, stop), path, clean)

    made_from = {
        **asked,
        "sources": [source.fingerprint() for source in sources],
        "selection": hashlib.sha256(file.read_bytes()).hexdigest()[:16],
        "name": shards.name,
    }
    return Stage("writing shards", made_from, len(selection), size, compute)


def _write_shard(
    sources: Sequence[Source], selection: Selection, numbers: range, path: Path, clean: CleanConfig | None
) -> Block:
    """Write some samples of a selection; gives (1, 3, sources) images, captions and broken items.

    With `clean`, samples of several sources become those of one: captions are cleaned, keys and identities get
    a prefix since another source may have the same ones, the source is named beside them, and labels go, since they
    would contradict each other.
    """
    counts, broken = np.zeros((1, 3, len(sources)), np.int64), []
    with new_shard(path) as archive:
        for number in numbers:
            owner, further = int(selection.sources[number]), {}
            try:
                sample = selection.sample(number, sources)
                if clean is not None:
                    key, captions = f"{key_prefix(owner)}{sample.key}", clean_image(sample.captions, clean)
                    shown = None if sample.identity is None else f"{key_prefix(owner)}{sample.identity}"
                    sample = replace(sample, key=key, captions=captions, label=None, identity=shown)
                    further = {"source": sources[owner].name}
                add_sample(archive, sample, further)
            except BrokenItemError as error:
                broken.append(str(error))
                counts[0, 2, owner] += 1
                continue
            counts[0, :2, owner] += (1, len(sample.captions))
    return Block({"counts": counts}, broken)


def key_prefix(source: int) -> str:
    """Before the keys of a source's samples, where those of several are written."""
    return f"{source}-"
