"""Each contrastive loss without the matrix of all pairs: for a large batch, and for one that is spread over ranks.

A rank holds its own b images and m = b x K texts. It gathers all M texts and computes a block of b x M logits, tile by
tile: whole rows, and its part of every column's log-sum-exp, which the ranks then join. The sigmoid loss needs no sums
over a row, so blocks of texts travel round a ring and no rank ever holds all of them. A process that holds the whole
batch is the case of one rank.

Each large form equals its plain loss up to rounding. It gives a rank's share, scaled so that **the mean over ranks is
the loss of the whole batch**; the gradients of the features are exact. Those of losses with a config are beside them,
as `large_NAME_loss`.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from pocketclip import distributed
from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.losses.tiles import divergence_of_rows, log_sum_exp


def large_affinity_loss(
    inputs: ContrastiveInputs,
    teacher_images: Sequence[Float[Tensor, "b _"]],
    teacher_texts: Sequence[Float[Tensor, "m _"]],
    teacher_scales: Sequence[float],
) -> Float[Tensor, ""]:
    """`affinity_loss` of the whole batch, as a mean over ranks; a rank holds the rows of its own images."""
    image, text = inputs.unit
    shares, text_shares = inputs.sizes
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


def own_columns(column_lse: Tensor, sizes: Sequence[int]) -> Tensor:
    """The log-sum-exp over the rows of all ranks, of this rank's columns, from that over this rank's rows."""
    columns: tuple[Tensor, ...] = distributed.log_sum_exp_over_ranks(column_lse, sizes).split(list(sizes))
    return columns[distributed.rank() if len(sizes) > 1 else 0]
