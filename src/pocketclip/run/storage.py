"""What a run keeps on disk."""

from collections.abc import Callable
from contextlib import suppress

import numpy as np

from pocketclip.cost.parameters import count_by_part, count_parameters
from pocketclip.cost.plan import checkpoint_bytes
from pocketclip.data import Source
from pocketclip.errors import BrokenItemError
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.recipe import Recipe

SAMPLED = 200
"""Samples whose size is looked at."""


def storage_bytes(recipe: Recipe, model: DualEncoder, source: Source | None, num_items: int) -> dict[str, int | None]:
    """Bytes by what they are for; None where it is not known here.

    `num_items` of one epoch may be more than the source holds on this machine, where it may not be at all.
    """
    num_bytes: dict[str, int | None] = {
        "data": None if source is None else _data_bytes(source, num_items),
        "checkpoints": _checkpoints(recipe, model),
        "bundle": 4 * count_parameters(model),
    }
    caches = [stage.cache for stage in recipe.stages.values() if stage.cache is not None]
    if caches:  # stored views are counted where the data are at hand
        views = max(1 if source is None and cache.views == "stored" else cache.num_views(source) for cache in caches)
        captions = 1.0 if source is None else _mean_of_some(source, lambda index: len(source.captions(index)), 1)
        image, text = model.image_encoder.feature_dim, model.text_encoder.feature_dim
        if not recipe.caches_texts:
            captions = 0.0  # their tower is trained
        num_bytes["feature_cache"] = round(num_items * 2 * (views * image + captions * text))  # float16
    return num_bytes


def _data_bytes(source: Source, num_items: int) -> int:
    """Pictures and captions, from some samples; a reinforced folder is weighed whole."""
    if source.stored is not None:
        return sum(shard.num_bytes for shard in source.stored.manifest.shards)

    def size(index: int) -> int:
        sample = source[index]
        return len(sample.image) + sum(len(text.encode()) for text in sample.captions)

    return round(_mean_of_some(source, size, 0) * min(num_items, len(source)))


def _mean_of_some(source: Source, value: Callable[[int], int], otherwise: int) -> float:
    """Over samples from all of a source, broken ones passed over; `otherwise` where all are."""
    values = []
    for index in np.unique(np.linspace(0, len(source) - 1, min(SAMPLED, len(source))).astype(int)).tolist():
        with suppress(BrokenItemError):
            values.append(value(index))
    return float(np.mean(values or [otherwise]))


def _checkpoints(recipe: Recipe, model: DualEncoder) -> int:
    """The most that lies there at a time: the kept ones, the one being written, and the best weights."""
    stage, counts = recipe.train, count_by_part(model)
    trained = sum(count for part, count in counts.items() if getattr(stage.learning_rate, part) is not None)
    total = sum(counts.values())
    if stage.cache is not None:  # frozen towers are not in them
        total = counts["heads"] + (0 if stage.is_heads_only else counts["text_encoder"])
    each = checkpoint_bytes(total, trained, with_average=stage.ema_decay is not None)
    return each * (stage.num_checkpoints + 1) + (4 * total if stage.keep == "best" else 0)
