"""The part of a layer that looks at each token alone."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x)."""

    def forward(self, states: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Element by element."""
        return states * torch.sigmoid(1.702 * states)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"gelu": nn.GELU, "quick_gelu": QuickGELU}


class FeedForward(nn.Sequential):
    """Linear, activation, linear: (..., W) to the same."""

    expand: nn.Linear
    contract: nn.Linear

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        expand, contract = nn.Linear(width, hidden), nn.Linear(hidden, width)
        super().__init__(OrderedDict(expand=expand, activation=ACTIVATIONS[activation](), contract=contract))
