"""How texts pass through a tower with little computed in vain: equal ones once, those of like length together."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Pass = Callable[[Tensor, Tensor], Tensor]
"""(M, L) ids and their mask, True where a token stands, to (M, F)."""
TEXTS_A_PASS = 64
"""On a CPU a longer batch is split by length, which trains 1.3 times as fast (benchmarks/training_precision.py)."""


def pass_by_length(
    run: Pass, tokens: Int[Tensor, "M L"], token_mask: Bool[Tensor, "M L"], *, texts_a_pass: int = TEXTS_A_PASS
) -> Float[Tensor, "M F"]:
    """`run` on at most `texts_a_pass` texts at a time; equal to the whole where padding does not change a result."""
    lengths = token_mask.sum(1)
    order = lengths.argsort(stable=True)
    features = []
    for rows in order.split(texts_a_pass):
        longest = max(1, int(lengths[rows[-1]]))
        features.append(run(tokens[rows, :longest], token_mask[rows, :longest]))
    return torch.cat(features)[order.argsort()]


def pass_once(run: Pass, tokens: Int[Tensor, "M L"], token_mask: Bool[Tensor, "M L"]) -> Float[Tensor, "M F"]:
    """`run` on each distinct text; equal to the whole for a tower that draws nothing at random."""
    length = tokens.shape[1]
    both = torch.cat([tokens, token_mask.to(tokens.dtype)], dim=1)
    distinct, place = both.unique(dim=0, return_inverse=True)
    if len(distinct) == len(tokens):
        return run(tokens, token_mask)
    return run(distinct[:, :length], distinct[:, length:].bool())[place]
