"""Projection heads: a tower's feature to the shared space."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualMlpHead(nn.Module):
    """Linear, GELU, Linear, dropout, plus the first Linear's output, LayerNorm.

    Reference: the projection head of https://github.com/moein-shariatnia/OpenAI-CLIP, used by the small-encoder study
    with D = 256 and dropout 0.1.
    """

    def __init__(
        self, feature_dim: int, embed_dim: int, *, dropout: float, input_norm: bool, input_dropout: float
    ) -> None:
        super().__init__()
        self.input_norm = nn.LayerNorm(feature_dim) if input_norm else nn.Identity()
        self.input_dropout = nn.Dropout(input_dropout)
        self.projection = nn.Linear(feature_dim, embed_dim)
        self.hidden = nn.Linear(embed_dim, embed_dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, features: Float[Tensor, "B F"]) -> Float[Tensor, "B D"]:
        """Project a tower's features; the result is not unit length."""
        projected = self.projection(self.input_dropout(self.input_norm(features)))
        hidden = self.dropout(self.hidden(F.gelu(projected)))
        output: Tensor = self.norm(hidden + projected)
        return output
