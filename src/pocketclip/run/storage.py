"""What a run keeps on disk."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import numpy as np

from pocketclip.cost.plan import checkpoint_bytes
from pocketclip.data import Source
from pocketclip.errors import BrokenItemError
from pocketclip.models.config import DualEncoderConfig
from pocketclip.recipe import Recipe

SAMPLED = 200
"""Samples whose size is looked at."""


@dataclass(frozen=True)
class ModelSize:
    """What of a model decides about storage."""

    parts: dict[str, int]
    """Learned values of each part that has a learning rate."""
    image_width: int
    """Of the image tower's features."""
    text_width: int

    @classmethod
    def of(cls, config: DualEncoderConfig) -> Self:
        """Builds the model without memory for its weights; a ModuleNotFoundError where torch is not installed."""
        import torch

        from pocketclip.cost.parameters import count_by_part
        from pocketclip.models.build import build_model

        with torch.device("meta"):  # shapes are enough to count
            model = build_model(config, load_pretrained=False)
        return cls(count_by_part(model), model.image_encoder.feature_dim, model.text_encoder.feature_dim)


def storage_bytes(
    recipe: Recipe, model: ModelSize | None, source: Source | None, num_items: int
) -> dict[str, int | None]:
    """Bytes by what they are for; None where it is not known here, as of a `model` that cannot be built.

    `num_items` of one epoch may be more than the source holds on this machine, where it may not be at all.
    """
    num_bytes: dict[str, int | None] = {
        "data": None if source is None else _data_bytes(source, num_items),
        "checkpoints": None if model is None else _checkpoints(recipe, model),
        "bundle": None if model is None else _weights(recipe, model) + _bank(recipe),
    }
    caches = [stage.cache for stage in recipe.stages.values() if stage.cache is not None]
    if caches and model is None:
        num_bytes["feature_cache"] = None
    elif caches and model is not None:  # stored views are counted where the data are at hand
        views = max(1 if source is None and cache.views == "stored" else cache.num_views(source) for cache in caches)
        captions = 1.0 if source is None else _mean_of_some(source, lambda index: len(source.captions(index)), 1)
        if not recipe.caches_texts:
            captions = 0.0  # their tower is trained
        num_bytes["feature_cache"] = round(
            num_items * 2 * (views * model.image_width + captions * model.text_width)
        )  # float16
    return num_bytes


def _weights(recipe: Recipe, model: ModelSize) -> int:
    """Of the bundle."""
    return (2 if recipe.bundle_weights == "float16" else 4) * sum(model.parts.values())


def _bank(recipe: Recipe) -> int:
    """At most, of embeddings in half precision."""
    hubs = recipe.hubs
    return 0 if hubs is None else 2 * recipe.model.embed_dim * (hubs.num_captions + hubs.num_images)


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


def _checkpoints(recipe: Recipe, model: ModelSize) -> int:
    """The most that lies there at a time: a stage's newest, the one being written and the best weights.

    Beside them are those of `keep_steps`, and what the stages before ended with.
    """
    counts, staying, most = model.parts, 0, 0
    for stage in recipe.stages.values():
        trained = sum(count for part, count in counts.items() if getattr(stage.learning_rate, part) is not None)
        total = sum(counts.values())
        if stage.cache is not None:  # frozen towers are not in them
            total = counts["heads"] + (0 if stage.is_heads_only else counts["text_encoder"])
        each = checkpoint_bytes(total, trained, with_average=stage.ema_decay is not None)
        staying += each * len(stage.keep_steps)
        most = max(most, staying + each * (stage.num_checkpoints + 1) + (4 * total if stage.keep == "best" else 0))
        staying += 4 * total  # the weights that it ends with
    return most
