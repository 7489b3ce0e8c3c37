"""Several sources as one: a share of each, captions cleaned, near duplicates and held-out pictures left out.

Every picture is read once for its hash; what is written is then decided from hashes and counts alone, since duplicates
concern all sources at once. `mixed` writes it.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, NonNegativeInt

from pocketclip.config import Config
from pocketclip.curate import clean
from pocketclip.curate.clean import REASONS, CleanConfig, CleanCounts, clean_image
from pocketclip.curate.near_duplicates import MAX_DISTANCE, Duplicates, Hashes, Integers, find_duplicates
from pocketclip.data import open_source, perceptual_hash
from pocketclip.data.blocks import Block, BlockFolder, Stage
from pocketclip.data.source import Source
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.stages.watch import SILENT, Watch

HASHED_BLOCK = 512
"""Samples that are hashed together."""


class MixPart(Config):
    """A source with its weight."""

    source: str
    weight: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The share of its items that is taken, drawn by the seed before anything is dropped; the rest is not read."""


class MixConfig(Config):
    """What is mixed, and what is left out of it."""

    parts: Annotated[tuple[MixPart, ...], Field(min_length=1)]
    without: tuple[str, ...] = ()
    """Sources held out, such as test splits: pictures near theirs are left out."""
    captions: CleanConfig = CleanConfig()
    max_distance: Annotated[int, Field(ge=0, le=MAX_DISTANCE)] = 4
    """Bits of 64 in which the hashes of near duplicates may differ."""
    join_captions: bool = False
    """Whether the captions of dropped duplicates go to the picture that stays."""
    seed: NonNegativeInt = 0
    """Of the draw from each source."""


def parse_part(text: str) -> MixPart:
    """`KIND:PLACE` or `KIND:PLACE@WEIGHT`; what follows the last `@` is a weight if it is a number.

    Raises:
        UserError: a weight that is no share.
    """
    place, at, tail = text.rpartition("@")
    try:
        weight = float(tail) if at else 1.0
    except ValueError:
        place, weight = text, 1.0  # an @ of the place's own
    if not 0 < weight <= 1:
        raise UserError(
            f"{text}: the weight behind @ is the share of the source to take, above 0 and at most 1 (got {tail}). "
            f"If the place itself ends in @{tail}, write {text}@1."
        )
    return MixPart(source=place or text, weight=weight)


def draw(count: int, weight: float, seed: int) -> Integers:
    """The numbers of the samples that are taken, in order: at least one; those of a smaller weight among them."""
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[: max(1, round(count * weight))])


def open_hashing(part: MixPart, seed: int, rules: CleanConfig) -> Stage:
    """`hashing_stage` of a source that is opened for it."""
    return hashing_stage(open_source(part.source, place="SOURCE"), part, seed, rules)


def hashing_stage(source: Source, part: MixPart, seed: int, rules: CleanConfig) -> Stage:
    """The stage that hashes what is taken of a source and counts the captions that stay.

    Raises:
        UserError: the source is empty.
    """
    if len(source) == 0:
        raise UserError(f"{source.name}: no images.")
    taken = draw(len(source), part.weight, seed)
    made_from = {
        "source": source.fingerprint(),
        "num_items": len(source),
        "weight": part.weight,
        "seed": seed,
        "captions": rules.model_dump(mode="json"),
        "formats": [perceptual_hash.FORMAT, clean.FORMAT],
    }

    def compute(start: int, stop: int) -> Block:
        return measure(source, taken[start:stop], rules)

    return Stage(f"reading {source.name}", made_from, len(taken), HASHED_BLOCK, compute)


def measure(source: Source, indices: Integers, rules: CleanConfig) -> Block:
    """What the decision needs to know of some samples: the arrays of `Measured`."""
    counts, broken = CleanCounts(), []
    rows: list[tuple[int, int, int]] = []
    for index in indices.tolist():
        try:
            sample = source[index]
            identity = perceptual_hash.perceptual_hash(sample.image, place=sample.place)
        except BrokenItemError as error:
            broken.append(str(error))
            continue
        rows.append((index, identity, len(clean_image(sample.captions, rules, counts))))
    arrays: dict[str, npt.NDArray[Any]] = {
        "indices": np.array([index for index, _, _ in rows], np.int64),
        "hashes": np.array([identity for _, identity, _ in rows], np.uint64),
        "counts": np.array([count for _, _, count in rows], np.int64),
        "cleaning": np.array([[counts.num_read, counts.num_changed, *(counts.dropped[name] for name in REASONS)]]),
    }
    return Block(arrays, broken)


@dataclass(frozen=True)
class Measured:
    """What was read of one source."""

    indices: Integers
    """(N,), number in the source, of those that could be read."""
    hashes: Hashes
    """(N,)."""
    counts: Integers
    """(N,), captions that stay."""
    cleaning: Integers
    """(2 + reasons,), captions read, changed, and dropped for each reason."""
    num_broken: int

    @classmethod
    def load(cls, folder: BlockFolder) -> Self:
        """From the blocks of `open_hashing`."""
        num_broken = sum(len(block.broken) for block in folder.read_all("indices"))
        return cls(
            folder.column("indices").astype(np.int64),
            folder.column("hashes").astype(np.uint64),
            folder.column("counts").astype(np.int64),
            folder.column("cleaning").sum(axis=0),
            num_broken,
        )


@dataclass(frozen=True)
class Plan:
    """What is written, in order, and why the rest is not."""

    sources: Integers
    """(n,), number of the source each written sample is from."""
    indices: Integers
    """(n,), its number there."""
    joined_edges: Integers
    """(n + 1,), where the joined samples of each begin and end."""
    joined: Integers
    """(j, 2), source and number of the samples whose captions are joined."""
    without_caption: Integers
    """(S,), samples of each source that no caption is left to."""
    duplicates: Integers
    """(S,), samples of each source that another one stands for."""
    held_out: Integers
    """(h, 3), source, number, and the place among the held-out hashes of one that is near."""

    def joined_to(self, number: int) -> Sequence[tuple[int, int]]:
        """Source and number of the duplicates whose captions a written sample gets."""
        start, stop = self.joined_edges[number], self.joined_edges[number + 1]
        return [(int(source), int(index)) for source, index in self.joined[start:stop]]


def make_plan(
    measured: Sequence[Measured],
    held_out: Hashes,
    *,
    max_distance: int,
    join_captions: bool,
    watch: Watch = SILENT,
) -> Plan:
    """Decide which samples are written, and in which order.

    Pictures near a held-out one go first, then those without a caption, then duplicates: of pictures near each other
    the one with more captions stays, of equals the first, sources in their order. What stays is interleaved evenly,
    each source in its own order, so that every shard holds the sources in the proportions of the whole.

    Args:
        measured: of each source.
        held_out: (H,), hashes of pictures that must not be written.
        max_distance: in bits, at which two pictures are near.
        join_captions: whether the captions of duplicates are kept.
        watch: told of the search for duplicates.
    """
    owners = np.repeat(np.arange(len(measured)), [len(one.indices) for one in measured])
    indices, hashes, counts = (
        np.concatenate([getattr(one, name) for one in measured]) for name in ("indices", "hashes", "counts")
    )
    # One without a caption stands last, behind every one that it could be a duplicate of
    found = find_duplicates(hashes, counts, held_out, max_distance, watch)
    near_held, bare = found.held_out >= 0, (found.held_out < 0) & (counts == 0)
    kept = np.flatnonzero((found.keeper == np.arange(len(hashes))) & ~bare)
    dropped = ~near_held & ~bare & (found.keeper != np.arange(len(hashes)))
    kept = kept[_interleaved(owners[kept])]
    edges, joined = _joined(found, kept, np.flatnonzero(dropped) if join_captions else np.zeros(0, np.int64))
    of_source = functools.partial(np.bincount, minlength=len(measured))
    return Plan(
        sources=owners[kept],
        indices=indices[kept],
        joined_edges=edges,
        joined=np.stack([owners[joined], indices[joined]], axis=1),
        without_caption=of_source(owners[bare]),
        duplicates=of_source(owners[dropped]),
        held_out=np.stack([owners[near_held], indices[near_held], found.held_out[near_held]], axis=1),
    )


def _interleaved(owners: Integers) -> Integers:
    """An order in which each source is spread evenly over the whole, given the source of each sample in turn."""
    counts = np.bincount(owners)
    places = np.concatenate([np.zeros(0), *((np.arange(count) + 0.5) / count for count in counts)])
    return np.lexsort((owners, places))


def _joined(found: Duplicates, kept: Integers, dropped: Integers) -> tuple[Integers, Integers]:
    """Edges by place in `kept`, and the dropped samples in the order of those that stand for them."""
    place = np.full(len(found.keeper), -1, np.int64)
    place[kept] = np.arange(len(kept))
    standing = place[found.keeper[dropped]]
    order = np.argsort(standing, kind="stable")
    return np.concatenate([[0], np.cumsum(np.bincount(standing, minlength=len(kept)))]), dropped[order]
