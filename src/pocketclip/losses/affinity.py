"""Affinity distillation: the student learns how alike the teachers find every image and text of a batch."""

import functools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def affinity_loss(
    image_features: Float[Tensor, "B D"],
    text_features: Float[Tensor, "M D"],
    logit_scale: Float[Tensor, ""],
    teacher_images: Sequence[Float[Tensor, "B _"]],
    teacher_texts: Sequence[Float[Tensor, "M _"]],
    teacher_scales: Sequence[float],
) -> Float[Tensor, ""]:
    """Kullback-Leibler divergence from the teachers' softmax over the batch to the student's, in both directions.

    Several teachers are averaged after their softmax, so that the student's goal is one distribution a row: KL(mean_k
    softmax(s_k I_k T_k') || softmax(s I T')). Reference: MobileCLIP, https://arxiv.org/abs/2311.17049, equation 3, in
    the form of its published training (`--distill-average-after-softmax`); TinyCLIP's affinity mimicking is the case of
    one teacher. Those programs leave out the teachers' entropy, and the paper averages one divergence a teacher: both
    differ from this by a number that the student cannot change, so gradients are the same. It is 0 where the student
    agrees with the mean of the teachers, never less.
    """
    logits = logit_scale * image_features @ text_features.T  # (B, M): images x texts
    teachers = [
        (scale * image @ text.T).detach()
        for image, text, scale in zip(teacher_images, teacher_texts, teacher_scales, strict=True)
    ]
    return (_divergence(teachers, logits, dim=1) + _divergence(teachers, logits, dim=0)) / 2


def log_mean(logarithms: Sequence[Float[Tensor, "..."]]) -> Float[Tensor, "..."]:
    """Logarithm of the mean of what the tensors are logarithms of, in place of none and without overflow."""
    if len(logarithms) == 1:
        return logarithms[0]
    return functools.reduce(torch.logaddexp, logarithms) - math.log(len(logarithms))


def _divergence(teachers: list[Tensor], logits: Tensor, dim: int) -> Tensor:
    target = log_mean([teacher.log_softmax(dim) for teacher in teachers])
    return F.kl_div(logits.log_softmax(dim), target, reduction="sum", log_target=True) / logits.shape[1 - dim]
