"""Masked language modelling: the words that were hidden are guessed."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from pocketclip import distributed


def masked_language_loss(
    logits: Float[Tensor, "W V"], words: Int[Tensor, " W"], shares: Sequence[int] = ()
) -> Float[Tensor, ""]:
    """Cross-entropy over V words, a mean over the W hidden ones of the batch.

    Where `shares` says that this is one rank's part of a batch, the mean over ranks is that over all ranks' words.
    Reference: BERT, https://arxiv.org/abs/1810.04805. It is log(V) where nothing is known of a word, and 0 where no
    word is hidden.
    """
    count = distributed.sum_over_ranks(logits.new_tensor(len(words)), shares).clamp(min=1)
    return F.cross_entropy(logits, words, reduction="sum") / count * max(1, len(shares))
