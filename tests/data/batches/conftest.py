"""What the tests of batches share."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pocketclip.data import Source
from pocketclip.data.batches import (
    BatchPlan,
    DrawnCaptions,
    EachCaption,
    Teachers,
    TrainingBatches,
    views_of,
)
from pocketclip.data.pictures.augment import AugmentConfig
from pocketclip.preprocess import PreprocessConfig
from pocketclip.tokenizer import Tokenizer
from pocketclip.types import ImageTextBatch

PREPROCESS = PreprocessConfig(image_size=16)


@pytest.fixture
def put_together(tokenizer: Tokenizer) -> Callable[..., TrainingBatches]:
    """A function that puts batches of small pictures together, without teachers where it is told of none."""

    def make(
        source: Source,
        plan: BatchPlan,
        *,
        augment: AugmentConfig | None = None,
        captions_per_image: int = 1,
        synthetic_captions_per_image: int = 0,
        last_captions: Any = None,
        with_features: bool = False,
        readers: Any = (),
        num_views: int = 1,
    ) -> TrainingBatches:
        captions: Any = DrawnCaptions(captions_per_image, synthetic_captions_per_image)
        teachers: Any = Teachers(readers=tuple(readers)) if readers else Teachers()
        if last_captions is not None:
            captions = EachCaption(last_captions)
        if with_features:
            assert source.stored is not None
            teachers = Teachers(source.stored.teachers)
        views = views_of(source, augment or AugmentConfig(), PREPROCESS, num_views=num_views)
        return TrainingBatches(source, plan, captions=captions, views=views, tokenizer=tokenizer, teachers=teachers)

    return make


@pytest.fixture
def batches(put_together: Callable[..., TrainingBatches]) -> Callable[..., Iterator[ImageTextBatch]]:
    """A function that gives the batches of one epoch, or of the steps it is told."""

    def give(
        source: Source,
        plan: BatchPlan,
        *,
        start_step: int = 0,
        num_steps: int | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        rank: int = 0,
        world_size: int = 1,
        **parts: Any,
    ) -> Iterator[ImageTextBatch]:
        stop = plan.steps_per_epoch if num_steps is None else num_steps
        share = plan.share(rank, world_size)
        read = {"num_workers": num_workers, "pin_memory": pin_memory, "share": share}
        return put_together(source, plan, **parts).steps(start_step, stop, **read)

    return give
