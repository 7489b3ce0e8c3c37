"""What a reinforced folder will weigh and how long it takes, before it is made."""

import math
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch

from pocketclip.config import Config
from pocketclip.data.sources.reinforced import write_shard
from pocketclip.data.sources.reinforcement import StoredShard
from pocketclip.distill.reinforce import Reinforcer
from pocketclip.errors import BrokenItemError, UserError

MEASURED_SECONDS = 10.0
COUNTED_SAMPLES = 1000
"""Whose captions are counted."""


class ReinforceEstimate(Config):
    """Storage and time of a recipe of `pocketclip reinforce`."""

    num_samples: int
    num_views: int
    texts_per_sample: float
    """Captions and synthetic captions."""
    width: int
    """Of all teachers together."""
    feature_bytes_per_sample: float
    """Embeddings alone."""
    bytes_per_sample: float
    """With the picture, views and headers, measured."""
    num_bytes: int
    """Of the whole folder."""
    num_measured: int
    """Samples that were reinforced to see how long it takes."""
    samples_per_second: float
    seconds: float
    """Of the whole folder on this machine."""


def feature_bytes(num_views: int, num_texts: float, width: int) -> float:
    """Bytes of a sample's embeddings, two a number."""
    return (num_views + num_texts) * width * 2


def estimate(reinforcer: Reinforcer, *, seconds: float = MEASURED_SECONDS) -> ReinforceEstimate:
    """Measure some samples, in about the given seconds or the time of one batch a thread; nothing is kept.

    A UserError says that no sample could be reinforced, or that the temporary folder is full.
    """
    manifest, num_samples = reinforcer.manifest, len(reinforcer.source)
    fewest = min(num_samples, torch.get_num_threads() * reinforcer.samples_per_batch)  # all threads have work
    measured, spent = _timed(reinforcer, fewest)
    wanted = min(num_samples, round(seconds / spent * fewest))
    if wanted >= 2 * fewest:  # the first time there is some overhead that is worth leaving out
        measured, spent = _timed(reinforcer, wanted)
    if measured.num_samples == 0:
        raise UserError(f"{reinforcer.source.name}: none of the first samples could be reinforced.")
    rate = measured.num_samples / spent
    texts = _captions_per_sample(reinforcer) + manifest.num_synthetic
    each = measured.num_bytes / measured.num_samples
    return ReinforceEstimate(
        num_samples=num_samples,
        num_views=manifest.num_views,
        texts_per_sample=texts,
        width=manifest.width,
        feature_bytes_per_sample=feature_bytes(manifest.num_views, texts, manifest.width),
        bytes_per_sample=each,
        num_bytes=math.ceil(each * num_samples),
        num_measured=measured.num_samples,
        samples_per_second=rate,
        seconds=num_samples / rate,
    )


def _timed(reinforcer: Reinforcer, count: int) -> tuple[StoredShard, float]:
    """The shard of the first samples, thrown away, and the seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        samples = reinforcer.samples(0, count, [])
        shard = write_shard(Path(folder) / "reinforced-0.tar", samples, reinforcer.manifest)
        return shard, time.perf_counter() - start


def _captions_per_sample(reinforcer: Reinforcer) -> float:
    source, counts = reinforcer.source, []
    for index in range(0, len(source), max(1, len(source) // COUNTED_SAMPLES)):
        with suppress(BrokenItemError):
            counts.append(len(source.captions(index)))
    return sum(counts) / max(1, len(counts))
