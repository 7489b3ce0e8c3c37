"""Similarity distribution matching: whom a row finds alike is spread over the images and texts of one identity."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pocketclip import distributed
from pocketclip.losses.contrastive import ContrastiveInputs

EPSILON = 1e-8
"""Added to the target, whose logarithm is taken where nobody matches, too."""
BLOCK_ELEMENTS = 1 << 24
"""Pairs held at a time by the large form: 64 MiB of float32."""


def sdm_loss(
    image_features: Float[Tensor, "B D"],
    text_features: Float[Tensor, "M D"],
    scale: float,
    image_identities: Int[Tensor, " B"],
    text_identities: Int[Tensor, " M"],
) -> Float[Tensor, ""]:
    """Kullback-Leibler divergence of the softmax over each row from an even share for each match; both directions.

    KL(q || p + 1e-8), with q the softmax of `scale` times the cosines and p the indicator of the same identity, over
    its sum. As published, it is the sum of both directions, and the scale is fixed at 1 / 0.02. Reference: IRRA,
    https://arxiv.org/abs/2303.12501, section 3.3. It is 0 where matches alone are alike, and equally so.
    """
    image_to_text = _divergence_of_rows(image_features, text_features, scale, image_identities, text_identities)
    text_to_image = _divergence_of_rows(text_features, image_features, scale, text_identities, image_identities)
    return image_to_text / len(image_features) + text_to_image / len(text_features)


def large_sdm_loss(inputs: ContrastiveInputs, scale: float) -> Float[Tensor, ""]:
    """`sdm_loss` of the whole batch, as a mean over ranks: every row is a softmax of its own, so a rank needs no sum.

    It gathers both sides and computes the rows of its own images and of its own texts, block by block.
    """
    image, text = inputs.unit
    shares, text_shares = inputs.sizes
    image_ids, text_ids = inputs.identities
    total = image.new_zeros(())
    for own, own_ids, other, other_ids, sizes, other_sizes in (
        (image, image_ids, text, text_ids, shares, text_shares),
        (text, text_ids, image, image_ids, text_shares, shares),
    ):
        others, their_ids = distributed.gather(other, other_sizes), distributed.gather(other_ids, other_sizes)
        rows = max(1, BLOCK_ELEMENTS // len(others))
        for part, part_ids in zip(own.split(rows), own_ids.split(rows), strict=True):
            block = checkpoint(_divergence_of_rows, part, others, scale, part_ids, their_ids, use_reentrant=False)
            total = total + block / sum(sizes)
    return total * len(shares)


def _divergence_of_rows(anchors: Tensor, others: Tensor, scale: float, anchor_ids: Tensor, other_ids: Tensor) -> Tensor:
    """Summed over the anchors, each of which has a match."""
    same = anchor_ids[:, None] == other_ids
    target = same.to(anchors.dtype) / same.sum(1, keepdim=True)
    log_share = (scale * anchors @ others.T).log_softmax(1)
    return torch.sum(log_share.exp() * (log_share - (target + EPSILON).log()))
