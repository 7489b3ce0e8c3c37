"""What one sample of a stage costs, from its recipe and the data it names."""

from collections.abc import Iterable

import numpy as np

from pocketclip.cost.training import SampleWork
from pocketclip.cost.weigh import CAPTION_TOKENS
from pocketclip.data import Source
from pocketclip.data.source import readable_captions
from pocketclip.models.dual_encoder import PARTS
from pocketclip.recipe import Recipe
from pocketclip.tokenizer import Tokenizer
from pocketclip.train.config import TrainConfig

SAMPLED = 500
"""Images whose captions tell how long captions are."""


def sample_work(recipe: Recipe, stage: TrainConfig, num_tokens: int) -> SampleWork:
    """What a step of a stage does with one image and its captions of so many tokens, padding included."""
    rates, cached = stage.learning_rate, stage.cache is not None
    return SampleWork(
        image_size=stage.image_size or recipe.model.image_encoder.image_size,
        num_tokens=num_tokens,
        batch_size=stage.batch_size,
        embed_dim=recipe.model.embed_dim,
        trained=frozenset(part for part in PARTS if getattr(rates, part) is not None),
        captions=stage.captions_per_image + stage.synthetic_captions_per_image,
        text_passes=2 if recipe.objective.needs.mask_rate else 1,
        views=1 if cached else recipe.objective.needs.views,
        cached=frozenset(("image", "text") if stage.is_heads_only else ("image",) if cached else ()),
        is_chunked=stage.chunk_size is not None and stage.chunk_size < stage.batch_size,
        is_checkpointed=stage.checkpoint_activations,
    )


def padded_tokens(source: Source, tokenizer: Tokenizer, stage: TrainConfig) -> int:
    """Tokens of a caption in a batch, which is padded to its longest."""
    some = np.unique(np.linspace(0, len(source) - 1, min(SAMPLED, len(source))).astype(int)).tolist()
    captions = [text for texts in readable_captions(source, some) for text in texts]
    if not captions:
        return min(CAPTION_TOKENS, tokenizer.context_length)
    lengths = tokenizer.encode(captions)[1].sum(axis=1)
    if stage.text_tokens is not None:
        lengths = lengths.clip(max=stage.text_tokens.keep)
    drawn = stage.batch_size * (stage.captions_per_image + stage.synthetic_captions_per_image)
    return expected_longest(lengths.tolist(), drawn)


def expected_longest(lengths: Iterable[int], drawn: int) -> int:
    """The longest of so many that are drawn, on average."""
    values, counts = np.unique(list(lengths), return_counts=True)
    below = (np.cumsum(counts) / counts.sum()) ** drawn  # that none is longer
    return round(float((values * np.diff(below, prepend=0.0)).sum()))
