"""Gradient distillation: the contrastive loss pulls at the student's embeddings as it pulls at the teacher's."""

import torch
from jaxtyping import Float
from torch import Tensor


def gradient_loss(
    image_features: Float[Tensor, "B W"],
    text_features: Float[Tensor, "B W"],
    logit_scale: Float[Tensor, ""],
    teacher_image: Float[Tensor, "B W"],
    teacher_text: Float[Tensor, "B W"],
    teacher_scale: float,
) -> Float[Tensor, ""]:
    """Squared distance between the student's and the teacher's `contrastive_gradients`, summed over each row.

    It is a mean over pairs, 0 where the student agrees with the teacher. Reference: CLIP-KD,
    https://arxiv.org/abs/2307.12732 (GD).
    """
    student = contrastive_gradients(image_features, text_features, logit_scale)
    scale = torch.as_tensor(teacher_scale, dtype=teacher_image.dtype, device=teacher_image.device)
    teacher = contrastive_gradients(teacher_image.detach(), teacher_text.detach(), scale)
    squares = [(mine - theirs).square().sum() for mine, theirs in zip(student, teacher, strict=True)]
    return torch.stack(squares).sum() / len(image_features)


def contrastive_gradients(
    image_features: Float[Tensor, "B W"], text_features: Float[Tensor, "B W"], logit_scale: Float[Tensor, ""]
) -> tuple[Float[Tensor, "B W"], Float[Tensor, "B W"]]:
    """What a pair's embeddings get from B times `clip_loss`, in a form that can itself be differentiated.

    With P the softmax over rows, Q that over columns: s / 2 (P + Q - 2) T for images, s / 2 (P + Q - 2)' I for texts.
    Their size does not shrink as B grows.
    """
    logits = logit_scale * image_features @ text_features.T
    pull = (logits.softmax(dim=1) + logits.softmax(dim=0)) / 2
    pull = logit_scale * (pull - torch.eye(len(pull), dtype=pull.dtype, device=pull.device))
    return pull @ text_features, pull.T @ image_features
