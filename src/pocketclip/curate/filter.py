"""`data filter`: which samples of a source are worth keeping, by rules over signals measured of each."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveInt, model_validator

from pocketclip.config import Config
from pocketclip.curate.curation import Curation, Tell
from pocketclip.curate.selection import Integers, Mask, Selection
from pocketclip.curate.signals import Signals
from pocketclip.errors import UserError
from pocketclip.stages.store import Block, OpenStage, Stage
from pocketclip.stages.watch import Watch


class FilterConfig(Config):
    """The rules, in the order in which they are applied; None and False are off.

    Rules about captions drop captions, and an image goes when it has lost its last one, or never had any.
    """

    min_image_side: PositiveInt | None = None
    """Pixels of the shorter side."""
    max_aspect_ratio: Annotated[float, Field(ge=1)] | None = None
    """Longer side over shorter side."""
    drop_duplicate_images: bool = False
    """Files of the same bytes; the first in the source stays."""
    min_caption_words: PositiveInt | None = None
    max_caption_words: PositiveInt | None = None
    min_caption_letters: PositiveInt | None = None
    """Signs of any kind, blanks too."""
    language: Literal["en"] | None = None
    """Captions that speak against it are dropped; see `data/language.py`."""
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


def given_rules(rules: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `FilterConfig`'s that are on; 0 is a value."""
    return {rule: value for rule, value in rules.items() if value != FilterConfig.model_fields[rule].default}


@dataclass(frozen=True)
class Verdict:
    """What stays, and what each rule dropped."""

    selection: Selection
    dropped_images: dict[str, int]
    dropped_captions: dict[str, int]


def _repeated(identities: Integers, stay: Mask) -> Mask:
    """True where an earlier one of those that stay is the same."""
    places = np.flatnonzero(stay)
    repeated = np.zeros(len(identities), bool)
    _, first = np.unique(identities[places], return_index=True)
    repeated[np.delete(places, first)] = True
    return repeated


def _all_but_best(values: npt.NDArray[np.float32], stay: Mask, share: float) -> Mask:
    """False for a share of those that stay, the highest; of equal ones the earlier, and at least one."""
    places = np.flatnonzero(stay)
    others = np.ones(len(values), bool)
    order = np.argsort(-values[places], kind="stable")
    others[places[order[: max(1, round(share * len(places)))]]] = False
    return others


Rule = Callable[[Signals, Any, Mask], Mask]
"""Which images or captions a rule drops, given its value and which of them stay so far."""
IMAGE_RULES: dict[str, Rule] = {
    "min_image_side": lambda signals, side, _: signals.sides.min(axis=1) < side,
    "max_aspect_ratio": lambda signals, ratio, _: signals.sides.max(axis=1) > ratio * signals.sides.min(axis=1),
    "drop_duplicate_images": lambda signals, _, stay: _repeated(signals.image_ids, stay),
}
CAPTION_RULES: dict[str, Rule] = {
    "min_caption_words": lambda signals, fewest, _: signals.words < fewest,
    "max_caption_words": lambda signals, most, _: signals.words > most,
    "min_caption_letters": lambda signals, fewest, _: signals.letters < fewest,
    "language": lambda signals, _, __: ~signals.english,
    "drop_duplicate_captions": lambda signals, _, stay: _repeated(signals.caption_ids, stay),
    "min_similarity": lambda signals, least, _: signals.similarities < least,
    "keep_share": lambda signals, share, stay: _all_but_best(signals.similarities, stay, share),
}


def judge(signals: Signals, rules: FilterConfig) -> Verdict:
    """Apply the rules one after the other."""
    given = rules.model_dump(exclude_defaults=True)
    owners = signals.owners
    images, captions = np.ones(len(signals.indices), bool), np.ones(len(owners), bool)
    dropped_images, dropped_captions = dict[str, int](), dict[str, int]()
    for rule, value in given.items():
        if rule in IMAGE_RULES:
            bad = images & IMAGE_RULES[rule](signals, value, images)
            dropped_images[rule] = int(bad.sum())
            images &= ~bad
            captions &= images[owners]
        else:
            bad = captions & CAPTION_RULES[rule](signals, value, captions)
            dropped_captions[rule] = int(bad.sum())
            captions &= ~bad
    if given.keys() & CAPTION_RULES.keys():
        bare = images & (np.bincount(owners[captions], minlength=len(images)) == 0)
        dropped_images["no_caption_left"] = int(bare.sum())
        images &= ~bare
    none = np.zeros(int(images.sum()), np.int64)
    selection = Selection(
        sources=none,
        indices=signals.indices[images],
        counts=signals.counts[images],
        captions=captions[images[owners]],
        joined_counts=none,
        joined=np.zeros((0, 2), np.int64),
    )
    return Verdict(selection, dropped_images, dropped_captions)


class FilterReport(Config):
    """What a filter kept and dropped."""

    num_images: int
    """Readable ones of the source."""
    num_captions: int
    num_kept_images: int
    num_kept_captions: int
    num_broken: int
    num_without_caption: int = 0
    """Readable images that never had one."""
    dropped_images: dict[str, int]
    """By the first rule that dropped them; `no_caption_left` counts those that rules about captions left bare, and
    those that never had one."""
    dropped_captions: dict[str, int]
    """By the first rule that dropped them; captions of an image that a rule dropped are not counted."""
    num_shards: int


def _check_captioned(source: str, signals: Signals, rules: FilterConfig) -> None:
    """Rules about captions need some: without any, they would drop every image, and not for what they say."""
    given = [rule for rule in rules.model_dump(exclude_defaults=True) if rule in CAPTION_RULES]
    if given and len(signals.counts) and not signals.counts.any():
        names = " and ".join(f"--{rule.replace('_', '-')}" for rule in given)
        raise UserError(
            f"{source}: none of its {len(signals.counts):,} images has a caption, and {names} can only choose by "
            f"captions. Leave {'it' if len(given) == 1 else 'them'} out, or give the images captions (docs/data.md)."
        )


def filtering(
    measuring: Stage,
    open_stage: OpenStage,
    source: str,
    rules: FilterConfig,
    out: Path,
    decided: Callable[[Signals, Verdict], None] = lambda signals, verdict: None,
) -> Curation[FilterReport]:
    """The curation that keeps of a source what passes the rules; `measuring` gives the arrays of `Signals`.

    `decided` is told of the verdict before anything is written.
    """

    def decide(measured: Sequence[Block], _: Watch) -> tuple[Selection, Integers, Tell[FilterReport]]:
        signals, num_broken = Signals(**measured[0].arrays), len(measured[0].broken)
        _check_captioned(source, signals, rules)
        verdict = judge(signals, rules)
        if len(verdict.selection) == 0:
            counts = json.dumps({**verdict.dropped_images, **verdict.dropped_captions})
            raise UserError(f"{source}: the rules keep no image (dropped: {counts}); use milder ones with --resume.")
        decided(signals, verdict)

        def tell(counts: Integers, num_shards: int) -> FilterReport:
            images, captions, broken = counts[:, 0].tolist()
            return FilterReport(
                num_images=len(signals.indices),
                num_captions=len(signals.words),
                num_kept_images=images,
                num_kept_captions=captions,
                num_broken=num_broken + broken,
                num_without_caption=int((signals.counts == 0).sum()),
                dropped_images=verdict.dropped_images,
                dropped_captions=verdict.dropped_captions,
                num_shards=num_shards,
            )

        planned = [[len(verdict.selection)], [int(verdict.selection.captions.sum())], [0]]
        return verdict.selection, np.array(planned), tell

    return Curation(
        kind="filter",
        report=FilterReport,
        out=out,
        asked={"rules": rules.model_dump(mode="json")},
        made_from=measuring.made_from,
        measuring={"measured": (measuring, open_stage)},
        decide=decide,
        places=(source,),
        sources=(source,),
    )
