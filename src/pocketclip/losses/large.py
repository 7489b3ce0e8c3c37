"""Each contrastive loss without the matrix of all pairs: for a large batch, and for one that is spread over ranks.

A rank holds its own b images and m = b x K texts. For the softmax losses it gathers all M texts and computes a
block of b x M logits, tile by tile: whole rows, and its part of every column's log-sum-exp, which the ranks then join.
The sigmoid loss needs no sums over a row, so blocks of texts travel round a ring and no rank ever holds all of them.
A process that holds the whole batch is the case of one rank.

`shares` is the number of images of every rank, empty for one. Each function returns a rank's share, scaled so that
**the mean over ranks is the loss of the whole batch**; the gradients of the features are exact. `tile` is the number of
rows and columns held at a time. All else is as in the plain loss, which each equals up to rounding.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pocketclip import distributed
from pocketclip.losses.matches import matching_pairs
from pocketclip.losses.ring import sum_round_the_ring
from pocketclip.losses.tiles import TILE, divergence_of_rows, log_sum_exp, softplus_sum


def large_clip_loss(
    image_features: Float[Tensor, "b D"],
    text_features: Float[Tensor, "b D"],
    logit_scale: Float[Tensor, ""],
    shares: Sequence[int] = (),
    *,
    label_smoothing: float = 0.0,
    tile: int = TILE,
) -> Float[Tensor, ""]:
    """`clip_loss` of the whole batch, as a mean over ranks."""
    shares = shares or (len(image_features),)
    texts = distributed.gather(text_features, shares)
    image_lse, text_lse = log_sum_exp(image_features, texts, logit_scale, tile)
    own_text_lse = _own_columns(text_lse, shares)
    total = sum(shares)
    matching = (image_features * text_features).sum()
    everything = image_features.sum(0) @ texts.sum(0) / total
    target = logit_scale * ((1 - label_smoothing) * matching + label_smoothing * everything)
    return ((image_lse.sum() + own_text_lse.sum()) / 2 - target) * (len(shares) / total)


def large_multi_positive_loss(
    image_features: Float[Tensor, "b D"],
    text_features: Float[Tensor, "m D"],
    logit_scale: Float[Tensor, ""],
    image_ids: Int[Tensor, " b"],
    caption_ids: Int[Tensor, " m"],
    shares: Sequence[int] = (),
    *,
    tile: int = TILE,
) -> Float[Tensor, ""]:
    """`multi_positive_loss` of the whole batch, as a mean over ranks.

    Args:
        image_features: (b, D), this rank's, unit length per row.
        text_features: (m, D), this rank's, K of each image, unit length per row.
        logit_scale: (), inverse temperature, already exponentiated.
        image_ids: (b,), equal where the image is the same, on any rank.
        caption_ids: (m,), equal where the text is the same, on any rank.
        shares: images of each rank.
        tile: rows and columns held at a time.
    """
    shares, text_shares = _sizes(image_features, text_features, shares)
    texts = distributed.gather(text_features, text_shares)
    image_lse, text_lse = log_sum_exp(image_features, texts, logit_scale, tile)
    own_text_lse = _own_columns(text_lse, text_shares)
    rows, columns = _matches(image_ids, caption_ids, shares, text_shares).unbind(1)
    dtype, num_images, num_texts = image_features.dtype, sum(shares), sum(text_shares)
    texts_of_image = torch.bincount(rows, minlength=len(image_features)).to(dtype)
    images_of_text = torch.bincount(columns, minlength=num_texts)
    if len(shares) > 1:
        images_of_text = distributed.sum_over_ranks(images_of_text)
    weight = 1 / (num_images * texts_of_image[rows]) + 1 / (num_texts * images_of_text.to(dtype)[columns])
    matching = (weight * (image_features[rows] * texts[columns]).sum(1)).sum()
    loss = image_lse.sum() / num_images + own_text_lse.sum() / num_texts - logit_scale * matching
    return loss / 2 * len(shares)


def large_sigmoid_loss(
    image_features: Float[Tensor, "b D"],
    text_features: Float[Tensor, "m D"],
    logit_scale: Float[Tensor, ""],
    logit_bias: Float[Tensor, ""],
    image_ids: Int[Tensor, " b"],
    caption_ids: Int[Tensor, " m"],
    shares: Sequence[int] = (),
    *,
    tile: int = TILE,
) -> Float[Tensor, ""]:
    """`sigmoid_loss` of the whole batch, as a mean over ranks; ids as for `large_multi_positive_loss`."""
    shares, text_shares = _sizes(image_features, text_features, shares)
    pairs = _matches(image_ids, caption_ids, shares, text_shares)
    starts = [sum(text_shares[:number]) for number in range(len(shares))]

    def block_loss(owner: int, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        columns = pairs[:, 1] - starts[owner]
        here = (columns >= 0) & (columns < text_shares[owner])
        cosines = (image[pairs[here, 0]] * text[columns[here]]).sum(1)
        # softplus(-x) = softplus(x) - x
        return softplus_sum(image, text, scale, bias, tile) - (scale * cosines + bias).sum()

    total = sum_round_the_ring(block_loss, text_shares, image_features, text_features, logit_scale, logit_bias)
    return total * (len(shares) / sum(shares))


def large_soft_target_loss(
    image_features: Float[Tensor, "b D"],
    text_features: Float[Tensor, "b D"],
    logit_scale: Float[Tensor, ""],
    shares: Sequence[int] = (),
) -> Float[Tensor, ""]:
    """`soft_target_loss` of the whole batch, as a mean over ranks; a rank holds all rows of its own texts, untiled."""
    shares = shares or (len(image_features),)
    images, texts = distributed.gather(image_features, shares), distributed.gather(text_features, shares)
    logits = text_features @ images.T * logit_scale  # (b, B): own texts x all images
    similarity = (image_features @ images.T + text_features @ texts.T) / 2
    targets = (similarity / logit_scale).softmax(dim=1)
    row_lse = logits.logsumexp(1, keepdim=True)
    column_lse = _all_rows(logits.logsumexp(0), shares)
    both = targets * (row_lse - logits) + targets * (column_lse - logits)
    return both.sum() / 2 * (len(shares) / sum(shares))


def large_affinity_loss(
    image_features: Float[Tensor, "b D"],
    text_features: Float[Tensor, "m D"],
    logit_scale: Float[Tensor, ""],
    teacher_images: Sequence[Float[Tensor, "b _"]],
    teacher_texts: Sequence[Float[Tensor, "m _"]],
    teacher_scales: Sequence[float],
    shares: Sequence[int] = (),
    *,
    tile: int = TILE,
) -> Float[Tensor, ""]:
    """`affinity_loss` of the whole batch, as a mean over ranks; a rank holds the rows of its own images."""
    shares, text_shares = _sizes(image_features, text_features, shares)
    gathered = [distributed.gather(texts.detach(), text_shares) for texts in teacher_texts]
    teachers = [
        (scale * image.detach(), text)
        for image, text, scale in zip(teacher_images, gathered, teacher_scales, strict=True)
    ]
    rows = divergence_of_rows(
        image_features,
        distributed.gather(text_features, text_shares),
        logit_scale,
        teachers,
        num_images=sum(shares),
        join=lambda column_lse: _all_rows(column_lse, shares),
        tile=tile,
    )
    return rows * len(shares)


def large_interactive_loss(
    image_features: Float[Tensor, "b W"],
    text_features: Float[Tensor, "b W"],
    teacher_image: Float[Tensor, "b W"],
    teacher_text: Float[Tensor, "b W"],
    scale: Float[Tensor, ""],
    shares: Sequence[int] = (),
    *,
    tile: int = TILE,
) -> Float[Tensor, ""]:
    """`interactive_loss` of the whole batch, as a mean over ranks; a rank gathers the teacher's embeddings."""
    shares = shares or (len(image_features),)
    total = image_features.new_zeros(())
    for student, own in ((image_features, teacher_text.detach()), (text_features, teacher_image.detach())):
        row_lse, _ = log_sum_exp(student, distributed.gather(own, shares), scale, tile)
        total = total + (row_lse - scale * (student * own).sum(1)).sum()
    return total / 2 * (len(shares) / sum(shares))


def _all_rows(column_lse: Tensor, sizes: Sequence[int]) -> Tensor:
    """The log-sum-exp of each column over the rows of all ranks, from that over this rank's."""
    return distributed.log_sum_exp_over_ranks(column_lse) if len(sizes) > 1 else column_lse


def _own_columns(column_lse: Tensor, sizes: Sequence[int]) -> Tensor:
    """The same, of this rank's columns only."""
    if len(sizes) == 1:
        return column_lse
    own: Tensor = _all_rows(column_lse, sizes).split(list(sizes))[distributed.rank()]
    return own


def _sizes(image: Tensor, text: Tensor, shares: Sequence[int]) -> tuple[Sequence[int], list[int]]:
    """The images of every rank, and the texts."""
    shares = shares or (len(image),)
    captions_per_image = len(text) // len(image)
    return shares, [share * captions_per_image for share in shares]


def _matches(image_ids: Tensor, caption_ids: Tensor, shares: Sequence[int], text_shares: Sequence[int]) -> Tensor:
    """(P, 2): this rank's images and the texts of all ranks that match them."""
    owners = distributed.gather(image_ids, shares).repeat_interleave(text_shares[0] // shares[0])
    return matching_pairs(image_ids, owners, distributed.gather(caption_ids, text_shares))
