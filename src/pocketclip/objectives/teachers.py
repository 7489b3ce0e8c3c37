"""What every method that learns from teachers shares: losses caption by caption, and the affinity to the teachers."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pocketclip.errors import UserError
from pocketclip.losses.affinity import affinity_loss
from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.losses.large import large_affinity_loss
from pocketclip.types import Features, ImageTextBatch, TeacherFeatures

START_SCALE, MAX_SCALE = math.log(1 / 0.07), math.log(100)
"""Of an objective's own inverse temperatures, as logarithms; the same as CLIP's."""
PairLoss = Callable[[Features, ImageTextBatch], Tensor]
"""Of a batch with one caption an image."""


@dataclass(frozen=True)
class Lesson:
    """What a term sees of one teacher beside the student's features."""

    teacher: TeacherFeatures
    embeddings: Callable[[], tuple[Tensor, Tensor]]
    """Makes the student's images and texts in the teacher's space, (B, W) of length 1."""
    scale: Tensor | None
    """The interactive term's own inverse temperature, already exponentiated; None without that term."""


def learned_scales(*shape: int) -> nn.Parameter:
    """Inverse temperatures of an objective's own, as logarithms, where CLIP's starts."""
    return nn.Parameter(torch.full(shape, START_SCALE))


@torch.no_grad()
def clamp_scales(scales: Iterable[nn.Parameter]) -> None:
    """Keep inverse temperatures between 1 and 100, as CLIP does."""
    for scale in scales:
        scale.clamp_(0, MAX_SCALE)


def caption_by_caption(name: str, loss: PairLoss, features: Features, batch: ImageTextBatch) -> dict[str, Tensor]:
    """A loss of pairs over every caption drawn for the images: K captions are K batches of pairs.

    The last S captions of an image are synthetic. The mean over the real ones comes as `name`, and the mean over the
    synthetic ones, where there are some, as `name_synthetic`. MobileCLIP's loss is the sum of the two: drawing a single
    caption from both costs it four points on ImageNet.
    """
    count = batch.captions_per_image
    slots = [(features, batch)]
    if count > 1:
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
    """Refuse with a UserError what is not one inverse temperature a teacher."""
    if scales is not None and len(scales) != num_teachers:
        raise UserError(
            f"objective.teacher_scales: {len(scales)} value(s) for {num_teachers} teacher(s); give one for each, in "
            "their order, or leave it out to take each teacher's own."
        )


def captions_of(teacher: TeacherFeatures) -> Float[Tensor, "M W"]:
    """What a teacher makes of the captions; recipes do not put one that knows images only before a method that asks."""
    assert teacher.text is not None, "this teacher knows images only"
    return teacher.text


def teacher_affinity(inputs: ContrastiveInputs, teachers: Sequence[TeacherFeatures]) -> Float[Tensor, ""]:
    """`affinity_loss`: plain, tile by tile where the batch is large, or this rank's share of it."""
    assert teachers, "the batch carries no teacher features"
    images, texts = [teacher.image for teacher in teachers], [captions_of(teacher) for teacher in teachers]
    scales = [teacher.scale for teacher in teachers]
    if inputs.are_large:
        return large_affinity_loss(inputs, images, texts, scales)
    return affinity_loss(*inputs.unit, inputs.logit_scale, images, texts, scales)
