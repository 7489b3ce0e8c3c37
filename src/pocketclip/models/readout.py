"""Which of an image's or a text's tokens stands for the whole."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Modality = Literal["image", "text"]
Readout = Literal["cls", "mean"]


def read_tokens(tokens: "Tensor", mask: "Tensor | None", readout: Readout) -> "Tensor":
    """(B, L, D) to the (B, D) that stand for the whole."""
    if readout == "cls":
        return tokens[:, 0]
    if mask is None:
        return tokens.mean(1)
    weights = mask.unsqueeze(2).to(tokens.dtype)
    return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1)
