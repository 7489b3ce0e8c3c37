"""Each contrastive loss without the matrix of all pairs: for a large batch, and for one that is spread over ranks.

A rank holds its own b images and m = b x K texts. It gathers all M texts and computes a block of b x M logits, tile by
tile: whole rows, and for the softmax losses its part of every column's log-sum-exp, which the ranks then join. A
process that holds the whole batch is the case of one rank.

Each function equals its plain loss up to rounding. It returns a rank's share, scaled so that **the mean over ranks is
the loss of the whole batch**; the gradients of the features are exact.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pocketclip import distributed
from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.losses.matches import matching_pairs
from pocketclip.losses.tiles import divergence_of_rows, log_sum_exp, softplus_sum


def large_clip_loss(inputs: ContrastiveInputs, *, label_smoothing: float = 0.0) -> Float[Tensor, ""]:
    """`clip_loss` of the whole batch, as a mean over ranks."""
    image, text = inputs.unit
    shares, _ = _sizes(inputs)
    texts, total = distributed.gather(text, shares), sum(shares)
    image_lse, text_lse = log_sum_exp(image, texts, inputs.logit_scale)
    own_text_lse = _own_columns(text_lse, shares)
    matching = (image * text).sum()
    everything = image.sum(0) @ texts.sum(0) / total
    target = inputs.logit_scale * ((1 - label_smoothing) * matching + label_smoothing * everything)
    return ((image_lse.sum() + own_text_lse.sum()) / 2 - target) * (len(shares) / total)


def large_multi_positive_loss(inputs: ContrastiveInputs) -> Float[Tensor, ""]:
    """`multi_positive_loss` of the whole batch, as a mean over ranks."""
    image, text = inputs.unit
    shares, text_shares = _sizes(inputs)
    texts, num_images, num_texts = distributed.gather(text, text_shares), sum(shares), sum(text_shares)
    image_lse, text_lse = log_sum_exp(image, texts, inputs.logit_scale)
    own_text_lse = _own_columns(text_lse, text_shares)
    rows, columns = _matches(inputs).unbind(1)
    texts_of_image = torch.bincount(rows, minlength=len(image)).to(image.dtype)
    images_of_text = distributed.sum_over_ranks(torch.bincount(columns, minlength=num_texts), shares)
    weight = 1 / (num_images * texts_of_image[rows]) + 1 / (num_texts * images_of_text.to(image.dtype)[columns])
    matching = (weight * (image[rows] * texts[columns]).sum(1)).sum()
    loss = image_lse.sum() / num_images + own_text_lse.sum() / num_texts - inputs.logit_scale * matching
    return loss / 2 * len(shares)


def large_sigmoid_loss(inputs: ContrastiveInputs) -> Float[Tensor, ""]:
    """`sigmoid_loss` of the whole batch, as a mean over ranks."""
    image, text = inputs.unit
    scale, bias = inputs.logit_scale, inputs.logit_bias
    shares, text_shares = _sizes(inputs)
    texts = distributed.gather(text, text_shares)
    rows, columns = _matches(inputs).unbind(1)
    cosines = (image[rows] * texts[columns]).sum(1)
    total = softplus_sum(image, texts, scale, bias) - (scale * cosines + bias).sum()  # softplus(-x) = softplus(x) - x
    return total * (len(shares) / sum(shares))


def large_soft_target_loss(inputs: ContrastiveInputs) -> Float[Tensor, ""]:
    """`soft_target_loss` of the whole batch, as a mean over ranks; a rank holds all rows of its own texts, untiled."""
    image, text, scale = inputs.image, inputs.text, inputs.logit_scale
    shares, _ = _sizes(inputs)
    images, texts = distributed.gather(image, shares), distributed.gather(text, shares)
    logits = text @ images.T * scale  # (b, B): own texts x all images
    similarity = (image @ images.T + text @ texts.T) / 2
    targets = (similarity / scale).softmax(dim=1)
    row_lse = logits.logsumexp(1, keepdim=True)
    column_lse = distributed.log_sum_exp_over_ranks(logits.logsumexp(0), shares)
    both = targets * (row_lse - logits) + targets * (column_lse - logits)
    return both.sum() / 2 * (len(shares) / sum(shares))


def large_affinity_loss(
    inputs: ContrastiveInputs,
    teacher_images: Sequence[Float[Tensor, "b _"]],
    teacher_texts: Sequence[Float[Tensor, "m _"]],
    teacher_scales: Sequence[float],
) -> Float[Tensor, ""]:
    """`affinity_loss` of the whole batch, as a mean over ranks; a rank holds the rows of its own images."""
    image, text = inputs.unit
    shares, text_shares = _sizes(inputs)
    teachers = [
        (scale * own.detach(), distributed.gather(texts.detach(), text_shares))
        for own, texts, scale in zip(teacher_images, teacher_texts, teacher_scales, strict=True)
    ]
    texts = distributed.gather(text, text_shares)
    return divergence_of_rows(image, texts, inputs.logit_scale, teachers, shares) * len(shares)


def large_interactive_loss(
    image_features: Float[Tensor, "b W"],
    text_features: Float[Tensor, "b W"],
    teacher_image: Float[Tensor, "b W"],
    teacher_text: Float[Tensor, "b W"],
    scale: Float[Tensor, ""],
    shares: Sequence[int] = (),
) -> Float[Tensor, ""]:
    """`interactive_loss` of the whole batch, as a mean over ranks; a rank gathers the teacher's embeddings."""
    shares = shares or (len(image_features),)
    total = image_features.new_zeros(())
    for student, own in ((image_features, teacher_text.detach()), (text_features, teacher_image.detach())):
        row_lse, _ = log_sum_exp(student, distributed.gather(own, shares), scale)
        total = total + (row_lse - scale * (student * own).sum(1)).sum()
    return total / 2 * (len(shares) / sum(shares))


def _own_columns(column_lse: Tensor, sizes: Sequence[int]) -> Tensor:
    """The log-sum-exp over the rows of all ranks, of this rank's columns, from that over this rank's rows."""
    rank = distributed.rank() if len(sizes) > 1 else 0
    own: Tensor = distributed.log_sum_exp_over_ranks(column_lse, sizes).split(list(sizes))[rank]
    return own


def _sizes(inputs: ContrastiveInputs) -> tuple[Sequence[int], list[int]]:
    """The images of every rank, and the texts."""
    shares = inputs.shares or (len(inputs.image),)
    captions_per_image = len(inputs.text) // len(inputs.image)
    return shares, [share * captions_per_image for share in shares]


def _matches(inputs: ContrastiveInputs) -> Tensor:
    """(P, 2): this rank's images and the texts of all ranks that match them."""
    shares, text_shares = _sizes(inputs)
    owners = distributed.gather(inputs.image_ids, shares).repeat_interleave(text_shares[0] // shares[0])
    return matching_pairs(inputs.image_ids, owners, distributed.gather(inputs.caption_ids, text_shares))
