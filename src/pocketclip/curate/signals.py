"""What is measured of every sample of a source, for rules that choose among them."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pocketclip.curate.curation import MEASURED_BLOCK, measure_each
from pocketclip.curate.selection import Integers, Mask
from pocketclip.data import open_source
from pocketclip.data.keys import caption_id, content_id
from pocketclip.data.language import may_be_english
from pocketclip.data.source import Source, left_out_lines
from pocketclip.preprocess import decode_image, open_header
from pocketclip.stages.store import Block, Stage

if TYPE_CHECKING:  # it loads torch, which filtering without a model does not need
    from pocketclip.features.encode import Embeddings

FORMAT = 2  # raise when other arrays are measured, or others of the same sample


@dataclass(frozen=True)
class Signals:
    """What the rules need to know of every readable sample."""

    indices: Integers
    """(N,), number in the source."""
    sides: Integers
    """(N, 2), width and height in pixels."""
    image_ids: Integers
    """(N,), equal for files of the same bytes."""
    counts: Integers
    """(N,), captions."""
    words: Integers
    """(Q,), in each caption."""
    caption_ids: Integers
    """(Q,), equal for equal captions."""
    similarities: npt.NDArray[np.float32]
    """(Q,), of a caption to its image; empty where no rule needs it."""
    letters: Integers = field(default_factory=lambda: np.zeros(0, np.int64))
    """(Q,), in each caption."""
    english: Mask = field(default_factory=lambda: np.zeros(0, np.bool_))
    """(Q,), whether a caption may be English."""

    @property
    def owners(self) -> Integers:
        """(Q,), row of each caption's image."""
        return np.repeat(np.arange(len(self.indices)), self.counts)


def open_measuring(source: str) -> Stage:
    """The stage that measures a source for rules which need no model."""
    opened = open_source(source, place="SOURCE")
    made_from = {"source": opened.fingerprint(), "signals": FORMAT}
    compute, told = functools.partial(measure, opened), left_out_lines(opened)
    return Stage("measuring images", made_from, len(opened), MEASURED_BLOCK, compute, remarks=told)


def measure(source: Source, start: int, stop: int, embed: "Callable[[int, int], Embeddings] | None" = None) -> Block:
    """The arrays of `Signals` for samples `start` to `stop`; `embed` gives the embeddings that similarities are of."""
    similarities = np.zeros(0, np.float32)
    if embed is None:
        readable, broken, open_picture = range(start, stop), list[str](), decode_image
    else:
        embeddings = embed(start, stop)
        if len(embeddings.texts):
            similarities = (embeddings.images[embeddings.text_images] * embeddings.texts).sum(axis=1)
        # What was embedded can be decoded
        readable, broken, open_picture = embeddings.indices.tolist(), list(embeddings.broken), open_header
    columns: dict[str, list[Any]] = {signal.name: [] for signal in fields(Signals) if signal.name != "similarities"}
    for index, sample, picture in measure_each(source, readable, open_picture, broken):
        columns["indices"].append(index)
        columns["sides"].append(picture.size)
        columns["image_ids"].append(content_id(sample.image))
        columns["counts"].append(len(sample.captions))
        columns["words"] += [len(text.split()) for text in sample.captions]
        columns["caption_ids"] += map(caption_id, sample.captions)
        columns["letters"] += map(len, sample.captions)
        columns["english"] += map(may_be_english, sample.captions)
    arrays: dict[str, Any] = {name: np.array(values, np.int64) for name, values in columns.items()}
    arrays |= {"sides": arrays["sides"].reshape(-1, 2), "english": arrays["english"].astype(np.bool_)}
    return Block({**arrays, "similarities": similarities}, broken)
