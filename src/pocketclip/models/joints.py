"""Settings of what joins two towers, without torch: heads, shared encoder, pair head; each is imported when built."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pocketclip.config import Config
from pocketclip.errors import UserError
from pocketclip.models.readout import Modality, Readout

if TYPE_CHECKING:
    from torch import nn

    from pocketclip.models.pair_head import PairHead
    from pocketclip.models.shared_encoder import SharedMlp, SharedTransformer

TOKEN_TYPE_SCALE = 1e-5
NOT_OF_LAYERS = {"kind", "image_readout", "text_readout"}
"""Settings of a shared encoder that are not of its layers."""
Share = Annotated[float, Field(ge=0, lt=1)]


class LinearHeadConfig(Config):
    """One linear layer, as in CLIP."""

    kind: Literal["linear"] = "linear"
    bias: bool = False
    input_dropout: Share = 0.0

    def build(self, feature_dim: int, embed_dim: int) -> "nn.Module":
        """A head from F to D."""
        from torch import nn

        linear = nn.Linear(feature_dim, embed_dim, bias=self.bias)
        return nn.Sequential(nn.Dropout(self.input_dropout), linear) if self.input_dropout else linear


class ResidualMlpHeadConfig(Config):
    """The head of the small-encoder study, with optional normalisation and dropout of its input."""

    kind: Literal["residual_mlp"] = "residual_mlp"
    dropout: Share = 0.1
    input_norm: bool = False
    """A LayerNorm before the head; the study has none, and no `input_dropout`."""
    input_dropout: Share = 0.0

    def build(self, feature_dim: int, embed_dim: int) -> "nn.Module":
        """A head from F to D."""
        from pocketclip.models.heads import ResidualMlpHead

        return ResidualMlpHead(feature_dim, embed_dim, **self.model_dump(exclude={"kind"}))


class IdentityHeadConfig(Config):
    """No head: the other tower learns to meet this one's own space, whose neighbourhoods stay as they are.

    With little data it carries over best to words that training did not show.
    """

    kind: Literal["identity"] = "identity"

    def build(self, feature_dim: int, embed_dim: int) -> "nn.Module":
        """A head that changes nothing.

        Raises:
            UserError: the tower's feature is not D wide.
        """
        if feature_dim != embed_dim:
            raise UserError(
                f"model.embed_dim: an identity head keeps the tower's {feature_dim} numbers; set embed_dim to "
                f"{feature_dim} (got {embed_dim})."
            )
        from torch import nn

        return nn.Identity()


HeadConfig = Annotated[LinearHeadConfig | ResidualMlpHeadConfig | IdentityHeadConfig, Field(discriminator="kind")]


class _Readouts(Config):
    """What stands for a whole image or text."""

    image_readout: Literal["native", "cls", "mean"] = "native"
    """The class token, or the mean over all tokens; `native` is the class token of a tower that has one, and the mean
    of a convolutional tower's map, which is what such a tower was pretrained to give."""
    text_readout: Readout = "cls"
    """The first token, which is BERT's class token, or the mean over all tokens that are not padding."""
    hidden_features: Literal["activated", "linear"] = "activated"
    """Whether an objective sees a hidden layer behind its nonlinearity or before it, as in S-SMKE's code."""

    def readouts(self, *, has_class_token: bool) -> dict[Modality, Readout]:
        """Of both modalities, for an image tower whose first token is a class token or not.

        Raises:
            UserError: the class token of a tower without one is wanted.
        """
        if self.image_readout == "cls" and not has_class_token:
            raise UserError(
                "model.shared_encoder.image_readout: cls needs an image tower with a class token, and this one has "
                "none; choose mean."
            )
        native: Readout = "cls" if has_class_token else "mean"
        return {"image": native if self.image_readout == "native" else self.image_readout, "text": self.text_readout}


class SharedTransformerConfig(_Readouts):
    """Pre-norm transformer blocks, as in S-SMKE."""

    kind: Literal["transformer"] = "transformer"
    num_layers: PositiveInt = 1
    num_heads: PositiveInt = 12
    mlp_ratio: PositiveFloat = 4.0
    """Hidden width of the feed-forward layers, as a multiple of the width."""
    layer_scale: PositiveFloat | None = 0.2
    """Start of a learned factor a channel on what each half of a block adds; None for no factor."""
    token_types: bool = True
    """Add to every token a learned vector that says whether it is of an image or of a text."""
    token_type_scale: PositiveFloat = TOKEN_TYPE_SCALE
    """Start of the learned factor a channel on those vectors."""
    dropout: Share = 0.0
    drop_path_rate: Share = 0.0

    @model_validator(mode="after")
    def _scale_has_something_to_scale(self) -> "SharedTransformerConfig":
        if not self.token_types and self.token_type_scale != TOKEN_TYPE_SCALE:
            raise ValueError("token_type_scale has no effect with token_types: false; leave it out")
        return self

    def build(self, width: int, *, has_class_token: bool) -> "SharedTransformer":
        """The encoder of tokens and embeddings of that width, with random weights.

        Raises:
            UserError: the width is no multiple of the heads, or a class token is wanted where there is none.
        """
        if width % self.num_heads:
            raise UserError(
                f"model.shared_encoder.num_heads: should divide the width, embed_dim {width} (got {self.num_heads})."
            )
        from pocketclip.models.shared_encoder import SharedTransformer

        return SharedTransformer(
            width,
            self.readouts(has_class_token=has_class_token),
            settings=self.model_dump(mode="json"),
            **self.model_dump(exclude=NOT_OF_LAYERS),
        )


class SharedMlpConfig(_Readouts):
    """A perceptron on what stands for the whole image or text, as in SHRe."""

    kind: Literal["mlp"] = "mlp"
    hidden_widths: tuple[PositiveInt, ...] = Field(default=(3072,), min_length=1)
    dropout: Share = 0.0

    def build(self, width: int, *, has_class_token: bool) -> "SharedMlp":
        """As of `SharedTransformerConfig`."""
        from pocketclip.models.shared_encoder import SharedMlp

        return SharedMlp(
            width,
            self.readouts(has_class_token=has_class_token),
            settings=self.model_dump(mode="json"),
            **self.model_dump(exclude=NOT_OF_LAYERS),
        )


SharedEncoderConfig = Annotated[SharedTransformerConfig | SharedMlpConfig, Field(discriminator="kind")]
"""The union of every kind; its members are told apart by `kind`."""


class PairHeadConfig(Config):
    """The `model.pair_head` section of a recipe."""

    hidden_width: PositiveInt = 512
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1

    def build(self, embed_dim: int) -> "PairHead":
        """A head over embeddings of D numbers."""
        from pocketclip.models.pair_head import PairHead

        return PairHead(embed_dim, self.hidden_width, self.dropout)
