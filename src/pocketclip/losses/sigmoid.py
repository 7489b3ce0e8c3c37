"""SigLIP's sigmoid loss."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.losses.ring import sum_round_the_ring
from pocketclip.losses.tiles import softplus_sum


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
    should start at -ln(B - 1), the log-odds of a match, or the loss starts dominated by the many negatives. Without
    `positives` the matches are the diagonal, which needs M = B. At zero logits it equals M log 2.
    """
    logits = logit_scale * image_features @ text_features.T + logit_bias
    if positives is None:
        positives = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    signs = 2.0 * positives - 1.0
    return -F.logsigmoid(signs * logits).sum() / len(logits)


def large_sigmoid_loss(inputs: ContrastiveInputs) -> Float[Tensor, ""]:
    """`sigmoid_loss` of the whole batch, as a mean over ranks; see `losses/large.py`."""
    shares, text_shares = inputs.sizes
    starts = [sum(text_shares[:number]) for number in range(len(shares))]
    pairs = inputs.matches

    def block_loss(owner: int, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        columns = pairs[:, 1] - starts[owner]
        here = (columns >= 0) & (columns < text_shares[owner])
        cosines = (image[pairs[here, 0]] * text[columns[here]]).sum(1)
        # softplus(-x) = softplus(x) - x
        return softplus_sum(image, text, scale, bias) - (scale * cosines + bias).sum()

    total = sum_round_the_ring(block_loss, text_shares, *inputs.unit, inputs.logit_scale, inputs.logit_bias)
    return total * (len(shares) / sum(shares))
