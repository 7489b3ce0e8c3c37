"""`data mix`: several sources as one, a share of each, with clean captions and without near duplicates.

Every picture is read once for its hash; what is written is then decided from hashes and counts alone.
"""

import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, NonNegativeInt

from pocketclip.config import Config
from pocketclip.curate import clean
from pocketclip.curate.clean import COUNTS, CleanConfig, clean_image
from pocketclip.curate.curation import MEASURED_BLOCK, Curation, Tell, measure_each
from pocketclip.curate.mix_report import MixReport, report_mix
from pocketclip.curate.mix_verdict import Hashed, judge
from pocketclip.curate.selection import Integers, Selection, opened
from pocketclip.data.pictures import perceptual_hash
from pocketclip.data.pictures.near_pairs import MAX_DISTANCE
from pocketclip.data.source import Source, left_out_lines
from pocketclip.errors import UserError
from pocketclip.stages.store import Block, Stage
from pocketclip.stages.watch import Watch


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
    """`KIND:PLACE` or `KIND:PLACE@WEIGHT`; what follows the last `@` is a weight if it is a number."""
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


def open_hashing(source: Source | str, part: MixPart, seed: int, rules: CleanConfig) -> Stage:
    """The stage that hashes what is taken of a source, which must not be empty, and counts the captions that stay."""
    source = opened(source)
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

    told = left_out_lines(source)
    return Stage(f"reading {source.name}", made_from, len(taken), MEASURED_BLOCK, compute, remarks=told)


def measure(source: Source, indices: Integers, rules: CleanConfig) -> Block:
    """The arrays of `Hashed` for some samples."""
    cleaning, broken = Counter[str](), list[str]()
    found, hashes, counts = list[int](), list[int](), list[int]()
    readable = measure_each(source, indices.tolist(), perceptual_hash.perceptual_hash, broken)
    for index, sample, picture_hash in readable:
        found.append(index)
        hashes.append(picture_hash)
        counts.append(len(clean_image(sample.captions, rules, cleaning)))
    arrays = {"indices": np.array(found, np.int64), "hashes": np.array(hashes, np.uint64)}
    arrays |= {"counts": np.array(counts, np.int64), "cleaning": np.array([[cleaning[name] for name in COUNTS]])}
    return Block(arrays, broken)


def mixing(config: MixConfig, out: Path) -> Curation[MixReport]:
    """The curation that mixes sources into shards in `out`."""
    num_mixed = len(config.parts)
    parts = {f"source-{number}": part for number, part in enumerate(config.parts)}
    parts |= {f"without-{number}": MixPart(source=text) for number, text in enumerate(config.without)}
    places = [part.source for part in parts.values()]
    sources = [opened(place) for place in places]
    open_part = functools.partial(open_hashing, seed=config.seed, rules=config.captions)
    stages = [open_part(source, part) for source, part in zip(sources, parts.values(), strict=True)]
    openings = [functools.partial(open_part, part.source, part) for part in parts.values()]

    def decide(measured: Sequence[Block], watch: Watch) -> tuple[Selection, Integers, Tell[MixReport]]:
        hashed = [Hashed(**block.arrays, num_broken=len(block.broken)) for block in measured]
        verdict = judge(
            hashed[:num_mixed],
            np.concatenate([np.zeros(0, np.uint64), *(one.hashes for one in hashed[num_mixed:])]),
            max_distance=config.max_distance,
            join_captions=config.join_captions,
            watch=watch,
        )
        tell = functools.partial(report_mix, verdict, hashed, stages, sources, places)
        if len(verdict.selection) == 0:
            losses = tell(verdict.planned, 0).losses()
            raise UserError(
                f"{out}: nothing is left to write ({losses}). Only pictures with captions are mixed; bring some, "
                "or use milder settings with --resume."
            )
        return verdict.selection, verdict.planned, tell

    return Curation(
        kind="mix",
        report=MixReport,
        out=out,
        asked={"mix": config.model_dump(mode="json")},
        made_from={"fingerprints": [stage.made_from["source"] for stage in stages]},
        measuring=dict(zip(parts, zip(stages, openings, strict=True), strict=True)),
        decide=decide,
        places=places[:num_mixed],
        sources=sources[:num_mixed],
        clean=config.captions,
    )
