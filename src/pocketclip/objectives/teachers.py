"""What every method that learns from teachers shares: losses caption by caption, and the affinity to the teachers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from pocketclip.errors import UserError
from pocketclip.losses import affinity_loss
from pocketclip.losses.sharded import sharded_affinity_loss
from pocketclip.losses.tiled import tiled_affinity_loss
from pocketclip.objectives.contrastive import in_tiles, unit_features
from pocketclip.types import Features, ImageTextBatch, TeacherFeatures

START_SCALE, MAX_SCALE = math.log(1 / 0.07), math.log(100)
"""Of an objective's own inverse temperatures, as logarithms; the same as CLIP's."""
PairLoss = Callable[[Features, ImageTextBatch], Tensor]
"""Of a batch with one caption an image."""


def caption_by_caption(name: str, loss: PairLoss, features: Features, batch: ImageTextBatch) -> dict[str, Tensor]:
    """A loss of pairs over every caption drawn for the images: K captions are K batches of pairs.

    Args:
        name: of the loss.
        loss: of features and a batch with one caption an image.
        features: of the whole batch.
        batch: with K captions an image, the last S of them synthetic.

    Returns:
        The mean over the real captions as `name`, and the mean over the synthetic ones, where there are some, as
        `name_synthetic`. MobileCLIP's loss is the sum of the two: drawing a single caption from both costs it four
        points on ImageNet.
    """
    count = batch.captions_per_image
    if count == 1:
        losses = [loss(features, batch)]
    else:
        slots = [(features.with_caption(number, count), batch.with_caption(number)) for number in range(count)]
        losses = [loss(*slot) for slot in slots]
    num_real = count - batch.num_synthetic
    parts = {name: losses[:num_real], f"{name}_synthetic": losses[num_real:]}
    return {part: torch.stack(values).mean() for part, values in parts.items() if values}


def with_scales(teachers: Sequence[TeacherFeatures], scales: Sequence[float] | None) -> tuple[TeacherFeatures, ...]:
    """Teachers with other inverse temperatures than their own; None leaves those."""
    if scales is None:
        return tuple(teachers)
    return tuple(replace(teacher, scale=scale) for teacher, scale in zip(teachers, scales, strict=True))


def check_scales(scales: Sequence[float] | None, num_teachers: int) -> None:
    """One inverse temperature a teacher.

    Raises:
        UserError: another number of them.
    """
    if scales is not None and len(scales) != num_teachers:
        raise UserError(
            f"objective.teacher_scales: {len(scales)} value(s) for {num_teachers} teacher(s); give one for each, in "
            "their order, or leave it out to take each teacher's own."
        )


def captions_of(teacher: TeacherFeatures) -> Float[Tensor, "M W"]:
    """What a teacher makes of the captions; recipes do not put one that knows images only before a method that asks."""
    assert teacher.text is not None, "this teacher knows images only"
    return teacher.text


def own_part(own: Shaped[Tensor, "B ..."], batch: ImageTextBatch) -> float:
    """What a mean over this rank's rows counts for, so that the mean over ranks is that over all rows."""
    return len(batch.shares) * len(own) / sum(batch.shares) if len(batch.shares) > 1 else 1.0


def teacher_affinity(
    features: Features, batch: ImageTextBatch, teachers: Sequence[TeacherFeatures]
) -> Float[Tensor, ""]:
    """`affinity_loss`: plain, tile by tile where the batch is large, or this rank's share of it.

    Args:
        features: the student's, not normalised.
        batch: says how ranks share it.
        teachers: what each makes of the batch.
    """
    assert teachers, "the batch carries no teacher features"
    image, text = unit_features(features)
    theirs = (
        [teacher.image for teacher in teachers],
        [captions_of(teacher) for teacher in teachers],
        [teacher.scale for teacher in teachers],
    )
    if len(batch.shares) > 1:
        return sharded_affinity_loss(image, text, features.logit_scale, *theirs, batch.shares)
    affinity = tiled_affinity_loss if in_tiles(image, text) else affinity_loss
    return affinity(image, text, features.logit_scale, *theirs)
