"""`data filter`: which samples of a source are worth keeping, by rules over signals measured of each."""

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveInt, model_validator

from pocketclip.config import Config
from pocketclip.curate.curation import MEASURED_BLOCK, Curation, Tell, measure_each
from pocketclip.curate.selection import Integers, Mask, Selection
from pocketclip.data import open_source
from pocketclip.data.source import Sample, Source, caption_id
from pocketclip.errors import UserError
from pocketclip.preprocess import decode_image, open_header
from pocketclip.stages.store import Block, OpenStage, Stage
from pocketclip.stages.watch import Watch

if TYPE_CHECKING:  # it loads torch, which filtering without a model does not need
    from pocketclip.features.encode import Embeddings


class FilterConfig(Config):
    """The rules, in the order in which they are applied; None and False are off.

    Rules about captions drop captions, and an image goes when it has lost its last one.
    """

    min_image_side: PositiveInt | None = None
    """Pixels of the shorter side."""
    max_aspect_ratio: Annotated[float, Field(ge=1)] | None = None
    """Longer side over shorter side."""
    drop_duplicate_images: bool = False
    """Files of the same bytes; the first in the source stays."""
    min_caption_words: PositiveInt | None = None
    max_caption_words: PositiveInt | None = None
    drop_duplicate_captions: bool = False
    """Texts that differ only in case and closing punctuation; the first in the source stays."""
    min_similarity: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Of a caption's embedding to its image's, by a model."""
    keep_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of the captions that pass all other rules: those most similar to their images."""

    @model_validator(mode="after")
    def _rules_fit_together(self) -> Self:
        if not self.model_dump(exclude_defaults=True):
            raise ValueError("no rule is given, so nothing would be dropped; name one, or use `data convert`")
        if self.min_similarity is not None and self.keep_share is not None:
            raise ValueError("min_similarity and keep_share both choose by similarity; give one of them")
        shortest, longest = self.min_caption_words, self.max_caption_words
        if shortest is not None and longest is not None and shortest > longest:
            raise ValueError(f"min_caption_words {shortest} is above max_caption_words {longest}")
        return self

    @property
    def needs_model(self) -> bool:
        """Whether a rule compares embeddings."""
        return self.min_similarity is not None or self.keep_share is not None

    @property
    def _concerns_captions(self) -> bool:
        limits = (self.min_caption_words, self.max_caption_words)
        return self.needs_model or self.drop_duplicate_captions or any(limit is not None for limit in limits)


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


def open_measuring(source: str) -> Stage:
    """The stage that measures a source for rules which need no model."""
    opened = open_source(source, place="SOURCE")
    made_from = {"source": opened.fingerprint()}
    return Stage("measuring images", made_from, len(opened), MEASURED_BLOCK, functools.partial(measure, opened))


def measure(source: Source, start: int, stop: int, embed: "Callable[[int, int], Embeddings] | None" = None) -> Block:
    """The arrays of `Signals` for samples `start` to `stop`.

    Args:
        source: what to measure.
        start: first sample.
        stop: sample to stop before.
        embed: gives the `Embeddings` of samples from one number to another; None leaves the similarities out.
    """
    embeddings = None if embed is None else embed(start, stop)
    readable = range(start, stop) if embeddings is None else embeddings.indices.tolist()
    broken = [] if embeddings is None else list(embeddings.broken)
    open_picture = decode_image if embeddings is None else open_header  # what was embedded can be decoded

    def look(sample: Sample) -> tuple[int, int]:
        return open_picture(sample.image, place=sample.place).size

    rows = [
        (index, size, _bytes_id(sample.image), sample.captions)
        for index, sample, size in measure_each(source, readable, look, broken)
    ]
    texts = [text for *_, captions in rows for text in captions]
    similarities = np.zeros(0, np.float32)
    if embeddings is not None and texts:
        similarities = (embeddings.images[embeddings.text_images] * embeddings.texts).sum(axis=1)
    arrays: dict[str, npt.NDArray[Any]] = {
        "indices": _integers([index for index, *_ in rows]),
        "sides": _integers([size for _, size, *_ in rows]).reshape(-1, 2),
        "image_ids": _integers([identity for *_, identity, _ in rows]),
        "counts": _integers([len(captions) for *_, captions in rows]),
        "words": _integers([len(text.split()) for text in texts]),
        "caption_ids": _integers([caption_id(text) for text in texts]),
        "similarities": similarities,
    }
    return Block(arrays, broken)


def _integers(values: Sequence[Any]) -> Integers:
    return np.array(values, dtype=np.int64)


def _bytes_id(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest()) >> 1


@dataclass(frozen=True)
class Verdict:
    """What stays, and what each rule dropped."""

    selection: Selection
    dropped_images: dict[str, int] = field(default_factory=dict)
    dropped_captions: dict[str, int] = field(default_factory=dict)


class _Judge:
    """What is still in, rule after rule."""

    def __init__(self, signals: Signals) -> None:
        self.images = np.ones(len(signals.indices), bool)
        self.captions = np.ones(len(signals.words), bool)
        self.owners = np.repeat(np.arange(len(signals.indices)), signals.counts)
        self.dropped_images: dict[str, int] = {}
        self.dropped_captions: dict[str, int] = {}

    def drop_images(self, rule: str, bad: Mask) -> None:
        self.dropped_images[rule] = int((self.images & bad).sum())
        self.images &= ~bad
        self.captions &= self.images[self.owners]

    def drop_captions(self, rule: str, bad: Mask) -> None:
        self.dropped_captions[rule] = int((self.captions & bad).sum())
        self.captions &= ~bad


def judge(signals: Signals, rules: FilterConfig) -> Verdict:
    """Apply the rules one after the other."""
    state = _Judge(signals)
    if rules.min_image_side is not None:
        state.drop_images("min_image_side", signals.sides.min(axis=1) < rules.min_image_side)
    if rules.max_aspect_ratio is not None:
        longer, shorter = signals.sides.max(axis=1), signals.sides.min(axis=1)
        state.drop_images("max_aspect_ratio", longer > rules.max_aspect_ratio * shorter)
    if rules.drop_duplicate_images:
        state.drop_images("drop_duplicate_images", _repeated(signals.image_ids, state.images))
    if rules.min_caption_words is not None:
        state.drop_captions("min_caption_words", signals.words < rules.min_caption_words)
    if rules.max_caption_words is not None:
        state.drop_captions("max_caption_words", signals.words > rules.max_caption_words)
    if rules.drop_duplicate_captions:
        state.drop_captions("drop_duplicate_captions", _repeated(signals.caption_ids, state.captions))
    if rules.min_similarity is not None:
        state.drop_captions("min_similarity", signals.similarities < rules.min_similarity)
    if rules.keep_share is not None:
        state.drop_captions("keep_share", ~_best(signals.similarities, state.captions, rules.keep_share))
    if rules._concerns_captions:
        without = np.bincount(state.owners[state.captions], minlength=len(state.images)) == 0
        state.drop_images("no_caption_left", without)
    none = np.zeros(int(state.images.sum()), np.int64)
    selection = Selection(
        sources=none,
        indices=signals.indices[state.images],
        counts=signals.counts[state.images],
        captions=state.captions[state.images[state.owners]],
        joined_counts=none,
        joined=np.zeros((0, 2), np.int64),
    )
    return Verdict(selection, state.dropped_images, state.dropped_captions)


def _repeated(identities: Integers, counted: Mask) -> Mask:
    """True where an earlier one of those that count is the same."""
    places = np.flatnonzero(counted)
    repeated = np.zeros(len(identities), bool)
    _, first = np.unique(identities[places], return_index=True)
    repeated[np.delete(places, first)] = True
    return repeated


def _best(values: npt.NDArray[np.float32], counted: Mask, share: float) -> Mask:
    """The highest of those that count; of equal ones the earlier, and at least one."""
    places = np.flatnonzero(counted)
    best = np.zeros(len(values), bool)
    order = np.argsort(-values[places], kind="stable")
    best[places[order[: max(1, round(share * len(places)))]]] = True
    return best


class FilterReport(Config):
    """What a filter kept and dropped."""

    num_images: int
    """Readable ones of the source."""
    num_captions: int
    num_kept_images: int
    num_kept_captions: int
    num_broken: int
    dropped_images: dict[str, int]
    """By the first rule that dropped them; `no_caption_left` counts those that rules about captions left bare."""
    dropped_captions: dict[str, int]
    """By the first rule that dropped them; captions of an image that a rule dropped are not counted."""
    num_shards: int


def filtering(
    measuring: Stage, open_stage: OpenStage, source: str, rules: FilterConfig, out: Path
) -> Curation[FilterReport]:
    """The curation that keeps of a source what passes the rules.

    Args:
        measuring: the opened stage that gives the arrays of `Signals`.
        open_stage: opens it in another process.
        source: as a user writes it.
        rules: what to drop.
        out: folder for the shards.
    """

    def decide(measured: Sequence[Block], _: Watch) -> tuple[Selection, Integers, Tell[FilterReport]]:
        signals, num_broken = Signals(**measured[0].arrays), len(measured[0].broken)
        verdict = judge(signals, rules)
        if len(verdict.selection) == 0:
            counts = json.dumps({**verdict.dropped_images, **verdict.dropped_captions})
            raise UserError(f"{source}: the rules keep no image (dropped: {counts}); use milder ones with --resume.")

        def tell(counts: Integers, num_shards: int) -> FilterReport:
            images, captions, broken = counts[:, 0].tolist()
            return FilterReport(
                num_images=len(signals.indices),
                num_captions=len(signals.words),
                num_kept_images=images,
                num_kept_captions=captions,
                num_broken=num_broken + broken,
                dropped_images=verdict.dropped_images,
                dropped_captions=verdict.dropped_captions,
                num_shards=num_shards,
            )

        planned = [[len(verdict.selection)], [int(verdict.selection.captions.sum())], [0]]
        return verdict.selection, np.array(planned), tell

    return Curation(
        kind="filter",
        out=out,
        asked={"rules": rules.model_dump(mode="json")},
        made_from=measuring.made_from,
        measuring={"measured": (measuring, open_stage)},
        decide=decide,
        report=FilterReport,
        places=(source,),
        sources=(source,),
    )
