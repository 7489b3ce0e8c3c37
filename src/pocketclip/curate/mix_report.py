"""What became of every source of a mix."""

from collections.abc import Sequence

import numpy as np

from pocketclip.config import Config
from pocketclip.curate.clean import REASONS
from pocketclip.curate.mix_verdict import Hashed, MixVerdict
from pocketclip.curate.selection import Integers, key_prefix
from pocketclip.data.source import Source
from pocketclip.errors import BrokenItemError
from pocketclip.stages.store import Stage


class NearHeldOut(Config):
    """A picture that was left out because a held-out one is nearly the same."""

    key: str
    near: str
    """Held-out source and the key there."""
    distance: int
    """Bits of 64 in which the hashes differ."""


class MixedSource(Config):
    """What became of one source; broken, held out, without caption, duplicates and images add up to those taken."""

    source: str
    weight: float
    key_prefix: str
    """Of its samples in the shards."""
    num_items: int
    """In the source."""
    num_taken: int
    """Drawn by the weight."""
    num_broken: int
    num_held_out: int
    """Near a picture of a held-out source."""
    num_without_caption: int
    """No caption was there, or none was left."""
    num_duplicates: int
    """Another picture stands for these."""
    num_images: int
    """Written."""
    num_captions: int
    """Written, those that came from duplicates included."""
    num_captions_read: int
    num_captions_changed: int
    dropped_captions: dict[str, int]
    """By what cleaning found; captions of pictures that were dropped count too."""
    near_held_out: list[NearHeldOut]


class MixReport(Config):
    """What was mixed."""

    sources: list[MixedSource]
    num_images: int
    num_captions: int
    num_shards: int
    """0 where nothing was written."""

    def losses(self) -> str:
        """Why nothing is left, for an error."""
        names = ("num_taken", "num_broken", "num_held_out", "num_without_caption", "num_duplicates")
        sums = {name: sum(getattr(source, name) for source in self.sources) for name in names}
        return ", ".join(f"{name.removeprefix('num_').replace('_', ' ')}: {count:,}" for name, count in sums.items())


def report_mix(
    verdict: MixVerdict,
    hashed: Sequence[Hashed],
    stages: Sequence[Stage],
    sources: Sequence[Source],
    places: Sequence[str],
    counts: Integers,
    num_shards: int,
) -> MixReport:
    """The report of a mix.

    `hashed` to `places` are of each mixed source and behind them of each held-out one: what was read of it, the stage
    that read it, it, and its name as a user writes it. `counts` (3, sources) are images, captions and broken items of
    the mixed ones as written.
    """
    near, mixed = _name_near(verdict, hashed, sources), []
    for number, (num_images, num_captions, num_lost) in enumerate(counts.T.tolist()):
        made_from = stages[number].made_from
        read, changed, *dropped = hashed[number].cleaning.sum(axis=0).tolist()
        mixed.append(
            MixedSource(
                source=places[number],
                weight=made_from["weight"],
                key_prefix=key_prefix(number),
                num_items=made_from["num_items"],
                num_taken=stages[number].num_samples,
                num_broken=hashed[number].num_broken + num_lost,
                num_held_out=len(near[number]),
                num_without_caption=int(verdict.without_caption[number]),
                num_duplicates=int(verdict.duplicates[number]),
                num_images=num_images,
                num_captions=num_captions,
                num_captions_read=read,
                num_captions_changed=changed,
                dropped_captions=dict(zip(REASONS, dropped, strict=True)),
                near_held_out=near[number],
            )
        )
    num_images, num_captions, _ = counts.sum(axis=1).tolist()
    return MixReport(sources=mixed, num_images=num_images, num_captions=num_captions, num_shards=num_shards)


def _name_near(verdict: MixVerdict, hashed: Sequence[Hashed], sources: Sequence[Source]) -> list[list[NearHeldOut]]:
    """By mixed source, its pictures near held-out ones, with the keys of both."""
    num_mixed = len(verdict.duplicates)
    near: list[list[NearHeldOut]] = [[] for _ in range(num_mixed)]
    edges = np.cumsum([0, *(len(one.hashes) for one in hashed[num_mixed:])])
    for mine, index, place in verdict.held_out.tolist():
        held = int(np.searchsorted(edges, place, side="right")) - 1
        row, other = place - int(edges[held]), num_mixed + held
        own_hash = hashed[mine].hashes[np.searchsorted(hashed[mine].indices, index)]
        near[mine].append(
            NearHeldOut(
                key=_key(sources[mine], index),
                near=f"{sources[other].name}: {_key(sources[other], int(hashed[other].indices[row]))}",
                distance=int(np.bitwise_count(own_hash ^ hashed[other].hashes[row])),
            )
        )
    return near


def _key(source: Source, index: int) -> str:
    try:
        return source[index].key
    except BrokenItemError:
        return source.place(index)
