"""NT-Xent, SimCLR's loss: each view of an image finds the other one among all views of the batch."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

ROWS_AT_ONCE = 4096
"""More views than that are compared in blocks, whose logits are computed again in the backward pass."""


def nt_xent_loss(first: Float[Tensor, "B W"], second: Float[Tensor, "B W"], temperature: float) -> Float[Tensor, ""]:
    """The mean over both views of all images of the cross-entropy to the other view.

    Row i of both inputs is one image, of length 1; the candidates are the 2 B - 1 other views, so the loss is
    log(2 B - 1) where the views carry no signal. Reference: SimCLR, https://arxiv.org/abs/2002.05709, equation 1.
    """
    views = torch.cat([first, second])  # (2 B, W)
    places = torch.arange(len(views), device=views.device)
    partners = places.roll(len(first))

    def total(rows: Tensor) -> Tensor:
        logits = views[rows] @ views.T / temperature
        itself = rows[:, None] == places[None, :]
        return F.cross_entropy(logits.masked_fill(itself, -torch.inf), partners[rows], reduction="sum")

    if len(views) <= ROWS_AT_ONCE:
        return total(places) / len(views)
    parts = [checkpoint(total, rows, use_reentrant=False) for rows in places.split(ROWS_AT_ONCE)]
    return torch.stack(parts).sum() / len(views)
