"""The part of a layer that looks at each token alone."""

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


class FeedForward(nn.Module):
    """Linear, activation, linear."""

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.expand, self.contract = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, states: Float[Tensor, "*shape W"]) -> Float[Tensor, "*shape W"]:
        """(..., W) to the same."""
        output: Tensor = self.contract(self.activation(self.expand(states)))
        return output
