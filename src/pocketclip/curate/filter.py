"""Which samples of a source are worth keeping: rules, what they need to know of each sample, and their verdict.

Measuring goes block by block, on many machines where need be; the verdict is reached once all blocks are there, since
duplicates and shares concern the whole source.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveInt, model_validator

from pocketclip.config import Config
from pocketclip.data.blocks import Block
from pocketclip.data.source import Source, caption_id
from pocketclip.errors import BrokenItemError
from pocketclip.preprocess import decode_image, open_header

if TYPE_CHECKING:  # it loads torch, which filtering without a model does not need
    from pocketclip.data.encode import Embeddings

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


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
class Measured:
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

    @classmethod
    def join(cls, blocks: Iterable[Block]) -> Self:
        """The whole source from its blocks in order."""
        found = list(blocks)
        names = cls.__dataclass_fields__
        return cls(**{name: np.concatenate([block.arrays[name] for block in found]) for name in names})


def measure(source: Source, start: int, stop: int, embed: "Callable[[int, int], Embeddings] | None" = None) -> Block:
    """The arrays of `Measured` for samples `start` to `stop`.

    Args:
        source: what to measure.
        start: first sample.
        stop: sample to stop before.
        embed: embeds samples from one number to another; None leaves the similarities out.
    """
    embeddings = None if embed is None else embed(start, stop)
    readable = range(start, stop) if embeddings is None else embeddings.indices.tolist()
    broken = [] if embeddings is None else list(embeddings.broken)
    open_picture = decode_image if embeddings is None else open_header  # what was embedded can be decoded
    rows: list[tuple[int, tuple[int, int], int]] = []
    captions: list[tuple[str, ...]] = []
    for index in readable:
        try:
            sample = source[index]
            picture = open_picture(sample.image, place=sample.place)
        except BrokenItemError as error:
            broken.append(str(error))
            continue
        rows.append((index, picture.size, _bytes_id(sample.image)))
        captions.append(sample.captions)
    texts = [text for group in captions for text in group]
    similarities = np.zeros(0, np.float32)
    if embeddings is not None and texts:
        similarities = (embeddings.images[embeddings.text_images] * embeddings.texts).sum(axis=1)
    arrays: dict[str, npt.NDArray[Any]] = {
        "indices": _integers([index for index, _, _ in rows]),
        "sides": _integers([size for _, size, _ in rows]).reshape(-1, 2),
        "image_ids": _integers([identity for _, _, identity in rows]),
        "counts": _integers([len(group) for group in captions]),
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
    """Which samples stay with which captions, and what each rule dropped."""

    indices: Integers
    """(n,), number in the source."""
    counts: Integers
    """(n,), captions they had."""
    captions: Mask
    """(q,), which of those stay."""
    dropped_images: dict[str, int] = field(default_factory=dict)
    dropped_captions: dict[str, int] = field(default_factory=dict)
    """By the rule that came first; captions of an image that a rule dropped are not counted."""


class _Judge:
    """What is still in, rule after rule."""

    def __init__(self, measured: Measured) -> None:
        self.images = np.ones(len(measured.indices), bool)
        self.captions = np.ones(len(measured.words), bool)
        self.owners = np.repeat(np.arange(len(measured.indices)), measured.counts)
        self.dropped_images: dict[str, int] = {}
        self.dropped_captions: dict[str, int] = {}

    def drop_images(self, rule: str, bad: Mask) -> None:
        self.dropped_images[rule] = int((self.images & bad).sum())
        self.images &= ~bad
        self.captions &= self.images[self.owners]

    def drop_captions(self, rule: str, bad: Mask) -> None:
        self.dropped_captions[rule] = int((self.captions & bad).sum())
        self.captions &= ~bad


def judge(measured: Measured, rules: FilterConfig) -> Verdict:
    """Apply the rules one after the other."""
    state = _Judge(measured)
    if rules.min_image_side is not None:
        state.drop_images("min_image_side", measured.sides.min(axis=1) < rules.min_image_side)
    if rules.max_aspect_ratio is not None:
        longer, shorter = measured.sides.max(axis=1), measured.sides.min(axis=1)
        state.drop_images("max_aspect_ratio", longer > rules.max_aspect_ratio * shorter)
    if rules.drop_duplicate_images:
        state.drop_images("drop_duplicate_images", _repeated(measured.image_ids, state.images))
    if rules.min_caption_words is not None:
        state.drop_captions("min_caption_words", measured.words < rules.min_caption_words)
    if rules.max_caption_words is not None:
        state.drop_captions("max_caption_words", measured.words > rules.max_caption_words)
    if rules.drop_duplicate_captions:
        state.drop_captions("drop_duplicate_captions", _repeated(measured.caption_ids, state.captions))
    if rules.min_similarity is not None:
        state.drop_captions("min_similarity", measured.similarities < rules.min_similarity)
    if rules.keep_share is not None:
        state.drop_captions("keep_share", ~_best(measured.similarities, state.captions, rules.keep_share))
    if rules._concerns_captions:
        without = np.bincount(state.owners[state.captions], minlength=len(state.images)) == 0
        state.drop_images("no_caption_left", without)
    return Verdict(
        measured.indices[state.images],
        measured.counts[state.images],
        state.captions[state.images[state.owners]],
        state.dropped_images,
        state.dropped_captions,
    )


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
