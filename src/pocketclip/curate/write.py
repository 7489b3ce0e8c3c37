"""The stage that writes a selection as WebDataset shards: a block is a shard."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pocketclip.curate.clean import CleanConfig, clean_image
from pocketclip.curate.selection import Selection
from pocketclip.data import open_source
from pocketclip.data.shards import add_sample, new_shard
from pocketclip.data.source import Source
from pocketclip.errors import BrokenItemError
from pocketclip.stages.store import Block, Stage


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
    """The stage that writes the selection in `file`; its only array, `counts`, is what went into each shard.

    Args:
        places: the sources that the selection is from.
        file: of the selection.
        shards: folder and name of the shards, without their number.
        size: samples in a shard.
        asked: what the user asked for, to name the difference where blocks of something else are there.
        clean: rules for captions that make samples of several sources go together.
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

    With `clean`, samples of several sources become those of one: captions are cleaned, keys get a prefix since another
    source may have the same ones, the source is named beside them, and labels go, since they would contradict each
    other.
    """
    counts, broken = np.zeros((1, 3, len(sources)), np.int64), []
    with new_shard(path) as archive:
        for number in numbers:
            owner, further = int(selection.sources[number]), {}
            try:
                sample = selection.sample(number, sources)
                if clean is not None:
                    key, captions = f"{key_prefix(owner)}{sample.key}", clean_image(sample.captions, clean)
                    sample = replace(sample, key=key, captions=captions, label=None)
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
