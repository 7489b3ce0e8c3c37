"""Equal texts of a batch pass through a tower once: the sentence of two images, a fact that many scenes show."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def pass_once(
    run: Callable[[Tensor, Tensor], Tensor], tokens: Int[Tensor, "M L"], token_mask: Bool[Tensor, "M L"]
) -> Float[Tensor, "M F"]:
    """One feature a text, in the order given; equal to `run` on the whole for a tower that draws nothing at random.

    Args:
        run: tokens and mask of some texts to their features.
        tokens: (M, L) ids.
        token_mask: (M, L), True where a token stands.

    Returns:
        (M, F).
    """
    length = tokens.shape[1]
    both = torch.cat([tokens, token_mask.to(tokens.dtype)], dim=1)
    distinct, place = both.unique(dim=0, return_inverse=True)
    if len(distinct) == len(tokens):
        return run(tokens, token_mask)
    return run(distinct[:, :length], distinct[:, length:].bool())[place]
