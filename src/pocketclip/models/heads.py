"""Projection heads: a tower's feature to the shared space."""

from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip.config import Config
from pocketclip.errors import UserError

Share = Annotated[float, Field(ge=0, lt=1)]


class LinearHeadConfig(Config):
    """One linear layer, as in CLIP."""

    kind: Literal["linear"] = "linear"
    bias: bool = False
    input_dropout: Share = 0.0

    def build(self, feature_dim: int, embed_dim: int) -> nn.Module:
        """A head from F to D."""
        linear = nn.Linear(feature_dim, embed_dim, bias=self.bias)
        return nn.Sequential(nn.Dropout(self.input_dropout), linear) if self.input_dropout else linear


class ResidualMlpHeadConfig(Config):
    """The head of the small-encoder study, with optional normalisation and dropout of its input."""

    kind: Literal["residual_mlp"] = "residual_mlp"
    dropout: Share = 0.1
    input_norm: bool = False
    """A LayerNorm before the head; the study has none, and no `input_dropout`."""
    input_dropout: Share = 0.0

    def build(self, feature_dim: int, embed_dim: int) -> nn.Module:
        """A head from F to D."""
        return ResidualMlpHead(feature_dim, embed_dim, self)


class IdentityHeadConfig(Config):
    """No head: the other tower learns to meet this one's own space, whose neighbourhoods stay as they are.

    With little data it carries over best to words that training did not show.
    """

    kind: Literal["identity"] = "identity"

    def build(self, feature_dim: int, embed_dim: int) -> nn.Module:
        """A head that changes nothing.

        Raises:
            UserError: the tower's feature is not D wide.
        """
        if feature_dim != embed_dim:
            raise UserError(
                f"model.embed_dim: an identity head keeps the tower's {feature_dim} numbers; set embed_dim to "
                f"{feature_dim} (got {embed_dim})."
            )
        return nn.Identity()


HeadConfig = Annotated[LinearHeadConfig | ResidualMlpHeadConfig | IdentityHeadConfig, Field(discriminator="kind")]


class ResidualMlpHead(nn.Module):
    """Linear, GELU, Linear, dropout, plus the first Linear's output, LayerNorm.

    Reference: the projection head of https://github.com/moein-shariatnia/OpenAI-CLIP, used by the small-encoder study
    with D = 256 and dropout 0.1.
    """

    def __init__(self, feature_dim: int, embed_dim: int, config: ResidualMlpHeadConfig) -> None:
        super().__init__()
        self.input_norm = nn.LayerNorm(feature_dim) if config.input_norm else nn.Identity()
        self.input_dropout = nn.Dropout(config.input_dropout)
        self.projection = nn.Linear(feature_dim, embed_dim)
        self.hidden = nn.Linear(embed_dim, embed_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, features: Float[Tensor, "B F"]) -> Float[Tensor, "B D"]:
        """Project a tower's features; the result is not unit length."""
        projected = self.projection(self.input_dropout(self.input_norm(features)))
        hidden = self.dropout(self.hidden(F.gelu(projected)))
        output: Tensor = self.norm(hidden + projected)
        return output
