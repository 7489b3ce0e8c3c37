"""Contrastive losses of a batch whose pairs are spread over ranks.

A rank holds its own b images and m = b x K texts. For the softmax losses it gathers all M texts and computes a
block of b x M logits, tile by tile: whole rows, and its part of every column's log-sum-exp, which the ranks then join.
The sigmoid loss needs no sums over a row, so blocks of texts travel round a ring and no rank ever holds all of them.

Each function returns a rank's share, scaled so that **the mean over ranks is the loss of the whole batch**; the
gradients of the features are exact. `shares` is the number of images of every rank.

References: the ring, SigLIP, https://arxiv.org/abs/2303.15343, section 3.3.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pocketclip import distributed
from pocketclip.losses.tiled import TILE, affinity_rows, log_sum_exp, matching_pairs, tiled_sigmoid_loss


def sharded_clip_loss(
    image_features: Float[Tensor, "b D"],
    text_features: Float[Tensor, "b D"],
    logit_scale: Float[Tensor, ""],
    shares: Sequence[int],
    *,
    label_smoothing: float = 0.0,
    tile: int = TILE,
) -> Float[Tensor, ""]:
    """`clip_loss` of the whole batch, as a mean over ranks.

    Args:
        image_features: (b, D), this rank's, unit length per row.
        text_features: (b, D), this rank's, unit length per row.
        logit_scale: (), inverse temperature, already exponentiated.
        shares: images of each rank.
        label_smoothing: probability mass taken from the match and spread over the row.
        tile: rows and columns held at a time.
    """
    texts = distributed.gather(text_features, shares)
    image_lse, text_lse = log_sum_exp(image_features, texts, logit_scale, tile)
    own_text_lse = _own(distributed.log_sum_exp_over_ranks(text_lse), shares)
    total = sum(shares)
    matching = (image_features * text_features).sum()
    everything = image_features.sum(0) @ texts.sum(0) / total
    target = logit_scale * ((1 - label_smoothing) * matching + label_smoothing * everything)
    return ((image_lse.sum() + own_text_lse.sum()) / 2 - target) * (len(shares) / total)


def sharded_multi_positive_loss(
    image_features: Float[Tensor, "b D"],
    text_features: Float[Tensor, "m D"],
    logit_scale: Float[Tensor, ""],
    image_ids: Int[Tensor, " b"],
    caption_ids: Int[Tensor, " m"],
    shares: Sequence[int],
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
    text_shares = _text_shares(image_features, text_features, shares)
    texts = distributed.gather(text_features, text_shares)
    image_lse, text_lse = log_sum_exp(image_features, texts, logit_scale, tile)
    own_text_lse = _own(distributed.log_sum_exp_over_ranks(text_lse), text_shares)
    rows, columns = _matches(image_ids, caption_ids, shares, text_shares).unbind(1)
    dtype, num_images, num_texts = image_features.dtype, sum(shares), sum(text_shares)
    texts_of_image = torch.bincount(rows, minlength=len(image_features)).to(dtype)
    images_of_text = distributed.sum_over_ranks(torch.bincount(columns, minlength=num_texts)).to(dtype)
    weight = 1 / (num_images * texts_of_image[rows]) + 1 / (num_texts * images_of_text[columns])
    matching = (weight * (image_features[rows] * texts[columns]).sum(1)).sum()
    loss = image_lse.sum() / num_images + own_text_lse.sum() / num_texts - logit_scale * matching
    return loss / 2 * len(shares)


def sharded_affinity_loss(
    image_features: Float[Tensor, "b D"],
    text_features: Float[Tensor, "m D"],
    logit_scale: Float[Tensor, ""],
    teacher_images: Sequence[Float[Tensor, "b _"]],
    teacher_texts: Sequence[Float[Tensor, "m _"]],
    teacher_scales: Sequence[float],
    shares: Sequence[int],
    *,
    tile: int = TILE,
) -> Float[Tensor, ""]:
    """`affinity_loss` of the whole batch, as a mean over ranks; a rank holds the rows of its own images.

    Args:
        image_features: (b, D), this rank's of the student, unit length per row.
        text_features: (m, D), this rank's of the student, K of each image, unit length per row.
        logit_scale: (), the student's inverse temperature, already exponentiated.
        teacher_images: T of (b, width of the teacher), this rank's, unit length per row.
        teacher_texts: T of (m, width of the teacher), this rank's, unit length per row.
        teacher_scales: T inverse temperatures, one a teacher.
        shares: images of each rank.
        tile: rows and columns held at a time.
    """
    text_shares = _text_shares(image_features, text_features, shares)
    rows = affinity_rows(
        image_features,
        distributed.gather(text_features, text_shares),
        logit_scale,
        teacher_images,
        [distributed.gather(texts, text_shares) for texts in teacher_texts],
        teacher_scales,
        num_images=sum(shares),
        join=distributed.log_sum_exp_over_ranks,
        tile=tile,
    )
    return rows * len(shares)


def sharded_soft_target_loss(
    image_features: Float[Tensor, "b D"],
    text_features: Float[Tensor, "b D"],
    logit_scale: Float[Tensor, ""],
    shares: Sequence[int],
) -> Float[Tensor, ""]:
    """`soft_target_loss` of the whole batch, as a mean over ranks; a rank holds the rows of its own texts.

    Args:
        image_features: (b, D), this rank's, not normalised.
        text_features: (b, D), this rank's, not normalised.
        logit_scale: (), inverse temperature.
        shares: images of each rank.
    """
    images, texts = distributed.gather(image_features, shares), distributed.gather(text_features, shares)
    logits = text_features @ images.T * logit_scale  # (b, B): own texts x all images
    similarity = (image_features @ images.T + text_features @ texts.T) / 2
    targets = (similarity / logit_scale).softmax(dim=1)
    row_lse = logits.logsumexp(1, keepdim=True)
    column_lse = distributed.log_sum_exp_over_ranks(logits.logsumexp(0))
    both = targets * (row_lse - logits) + targets * (column_lse - logits)
    return both.sum() / 2 * (len(shares) / sum(shares))


def sharded_sigmoid_loss(
    image_features: Float[Tensor, "b D"],
    text_features: Float[Tensor, "m D"],
    logit_scale: Float[Tensor, ""],
    logit_bias: Float[Tensor, ""],
    image_ids: Int[Tensor, " b"],
    caption_ids: Int[Tensor, " m"],
    shares: Sequence[int],
    *,
    tile: int = TILE,
) -> Float[Tensor, ""]:
    """`sigmoid_loss` of the whole batch, as a mean over ranks; blocks of texts go round a ring.

    Args:
        image_features: (b, D), this rank's, unit length per row.
        text_features: (m, D), this rank's, K of each image, unit length per row.
        logit_scale: (), inverse temperature, already exponentiated.
        logit_bias: (), added to every logit.
        image_ids: (b,), equal where the image is the same, on any rank.
        caption_ids: (m,), equal where the text is the same, on any rank.
        shares: images of each rank.
        tile: rows and columns held at a time.
    """
    text_shares = _text_shares(image_features, text_features, shares)
    pairs = _matches(image_ids, caption_ids, shares, text_shares)
    starts = [sum(text_shares[:number]) for number in range(len(shares))]

    def block_loss(owner: int, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        columns = pairs[:, 1] - starts[owner]
        here = (columns >= 0) & (columns < text_shares[owner])
        block_pairs = torch.stack([pairs[here, 0], columns[here]], dim=1)
        return tiled_sigmoid_loss(image, text, scale, bias, block_pairs, tile=tile) * len(image)

    inputs = image_features, text_features, logit_scale, logit_bias
    total: Tensor = _Ring.apply(block_loss, tuple(text_shares), *inputs)
    return total * (len(shares) / sum(shares))


def _own(values: Tensor, shares: Sequence[int]) -> Tensor:
    own: Tensor = values.split(list(shares))[distributed.rank()]
    return own


def _text_shares(image: Tensor, text: Tensor, shares: Sequence[int]) -> list[int]:
    captions_per_image = len(text) // len(image)
    return [share * captions_per_image for share in shares]


def _matches(image_ids: Tensor, caption_ids: Tensor, shares: Sequence[int], text_shares: Sequence[int]) -> Tensor:
    """(P, 2): this rank's images and the texts of all ranks that match them."""
    owners = distributed.gather(image_ids, shares).repeat_interleave(text_shares[0] // shares[0])
    return matching_pairs(image_ids, owners, distributed.gather(caption_ids, text_shares))


BlockLoss = Callable[[int, Tensor, Tensor, Tensor, Tensor], Tensor]


class _Ring(torch.autograd.Function):
    """Sum of a block loss over the text blocks of all ranks; the backward pass computes each block again."""

    @staticmethod
    def forward(
        ctx: Any, block_loss: BlockLoss, sizes: tuple[int, ...], image: Tensor, text: Tensor, *scalars: Tensor
    ) -> Tensor:
        ctx.block_loss, ctx.sizes = block_loss, sizes
        ctx.save_for_backward(image, text, *scalars)
        block, total = text, image.new_zeros(())
        for step in range(len(sizes)):
            owner = (distributed.rank() + step) % len(sizes)
            following, works = _send_block(block, sizes, owner, last=step == len(sizes) - 1)
            total += block_loss(owner, image, block, *scalars)  # while the next block travels
            for work in works:
                work.wait()
            block = following
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        image, text, *scalars = (tensor.detach().requires_grad_() for tensor in ctx.saved_tensors)
        sums = [torch.zeros_like(tensor) for tensor in (image, *scalars)]
        block, block_grad = text, torch.zeros_like(text)
        for step in range(len(ctx.sizes)):
            owner = (distributed.rank() + step) % len(ctx.sizes)
            following, works = _send_block(block.detach(), ctx.sizes, owner, last=step == len(ctx.sizes) - 1)
            with torch.enable_grad():
                loss = ctx.block_loss(owner, image, block, *scalars)
            found = torch.autograd.grad(loss, (image, *scalars, block), gradients[0])
            for total, grad in zip((*sums, block_grad), found, strict=True):
                total += grad
            for work in works:
                work.wait()
            # The block's gradient follows it, and so comes home after the last step
            shape = torch.Size([ctx.sizes[(owner + 1) % len(ctx.sizes)], *text.shape[1:]])
            (block_grad,), works = distributed.pass_on([block_grad], [shape])
            for work in works:
                work.wait()
            block = following.requires_grad_()
        return None, None, sums[0], block_grad, *sums[1:]


def _send_block(block: Tensor, sizes: Sequence[int], owner: int, *, last: bool) -> tuple[Tensor, list[Any]]:
    """Begin to hand a block on; returns where the next one will be, and what to wait for."""
    if last:
        return block, []
    shape = torch.Size([sizes[(owner + 1) % len(sizes)], *block.shape[1:]])
    (following,), works = distributed.pass_on([block], [shape])
    return following, works
