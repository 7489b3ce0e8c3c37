"""Softmax loss in which captions of one image, and equal captions, are not each other's negatives."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from pocketclip import distributed
from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.losses.large import own_columns
from pocketclip.losses.tiles import log_sum_exp


def multi_positive_loss(
    image_features: Float[Tensor, "B D"],
    text_features: Float[Tensor, "M D"],
    logit_scale: Float[Tensor, ""],
    positives: Bool[Tensor, "B M"],
) -> Float[Tensor, ""]:
    """Symmetric cross-entropy with the target spread evenly over all matches of a row; each row and column has one.

    With one text an image and no equal ones it is `clip_loss`. Reference: UniCL, https://arxiv.org/abs/2204.03610,
    equations 2 to 4.
    """
    logits = logit_scale * image_features @ text_features.T
    targets = positives.to(logits.dtype)
    image_to_text = -(F.log_softmax(logits, dim=1) * targets / targets.sum(1, keepdim=True)).sum(1).mean()
    text_to_image = -(F.log_softmax(logits, dim=0) * targets / targets.sum(0, keepdim=True)).sum(0).mean()
    return (image_to_text + text_to_image) / 2


def large_multi_positive_loss(inputs: ContrastiveInputs) -> Float[Tensor, ""]:
    """`multi_positive_loss` of the whole batch, as a mean over ranks; see `losses/large.py`."""
    image, text = inputs.unit
    shares, text_shares = inputs.sizes
    texts, num_images, num_texts = distributed.gather(text, text_shares), sum(shares), sum(text_shares)
    image_lse, text_lse = log_sum_exp(image, texts, inputs.logit_scale)
    own_text_lse = own_columns(text_lse, text_shares)
    rows, columns = inputs.matches.unbind(1)
    texts_of_image = torch.bincount(rows, minlength=len(image)).to(image.dtype)
    images_of_text = distributed.sum_over_ranks(torch.bincount(columns, minlength=num_texts), shares)
    weight = 1 / (num_images * texts_of_image[rows]) + 1 / (num_texts * images_of_text.to(image.dtype)[columns])
    matching = (weight * (image[rows] * texts[columns]).sum(1)).sum()
    loss = image_lse.sum() / num_images + own_text_lse.sum() / num_texts - inputs.logit_scale * matching
    return loss / 2 * len(shares)
