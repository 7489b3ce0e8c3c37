"""SigLIP's sigmoid loss."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def sigmoid_loss(
    image_features: Float[Tensor, "B D"],
    text_features: Float[Tensor, "M D"],
    logit_scale: Float[Tensor, ""],
    logit_bias: Float[Tensor, ""],
    *,
    positives: Bool[Tensor, "B M"] | None = None,
) -> Float[Tensor, ""]:
    """Every image-text pair of the batch is its own yes-or-no question.

    Reference: SigLIP, https://arxiv.org/abs/2303.15343, algorithm 1: summed over a row, averaged over images. The bias
    should start at -ln(B - 1), the log-odds of a match, or the loss starts dominated by the many negatives.

    Args:
        image_features: (B, D), unit length per row.
        text_features: (M, D), unit length per row.
        logit_scale: (), inverse temperature, already exponentiated.
        logit_bias: (), added to every logit.
        positives: (B, M), True for matching pairs; None for the diagonal, which needs M = B.

    Returns:
        (), equals M log 2 at zero logits.
    """
    logits = logit_scale * image_features @ text_features.T + logit_bias
    if positives is None:
        positives = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    signs = 2.0 * positives - 1.0
    return -F.logsigmoid(signs * logits).sum() / len(logits)
