"""The encoder that images and texts share: both pass through the same blocks, one after the other, never together.

It takes the tokens of two pretrained towers. Reference: S-SMKE, Tim Cares, https://github.com/TimCares/EV-LP, in which
it is one pre-norm transformer block, or, as an ancestor, a perceptron.
"""

from typing import TYPE_CHECKING, Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip.config import Config
from pocketclip.errors import UserError
from pocketclip.models.readout import Modality, Readout, read_tokens
from pocketclip.models.shared_block import NORM_EPS, SharedBlock
from pocketclip.models.tower import Checkpointed

Layers = tuple[Float[Tensor, "B _"], ...]
"""The inner layers that an objective may look at, first to last."""
Share = Annotated[float, Field(ge=0, lt=1)]
TOKEN_TYPE_ROWS: dict[Modality, int] = {"text": 0, "image": 1}
TOKEN_TYPE_SCALE = 1e-5


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
        return SharedTransformer(width, self, self.readouts(has_class_token=has_class_token))


class SharedMlpConfig(_Readouts):
    """A perceptron on what stands for the whole image or text, as in SHRe."""

    kind: Literal["mlp"] = "mlp"
    hidden_widths: tuple[PositiveInt, ...] = Field(default=(3072,), min_length=1)
    dropout: Share = 0.0

    def build(self, width: int, *, has_class_token: bool) -> "SharedMlp":
        """As of `SharedTransformerConfig`."""
        return SharedMlp(width, self, self.readouts(has_class_token=has_class_token))


SharedEncoderConfig = Annotated[SharedTransformerConfig | SharedMlpConfig, Field(discriminator="kind")]
"""The union of every kind; its members are told apart by `kind`."""


class SharedEncoder(Checkpointed):
    """Tokens of images and of texts, which never meet, to a vector each."""

    widths: tuple[int, ...]
    """Of the output and of each inner layer."""

    if TYPE_CHECKING:

        def __call__(self, tokens: Tensor, mask: Tensor | None, modality: Modality) -> tuple[Tensor, Layers]: ...

    def __init__(self, config: _Readouts, readouts: dict[Modality, Readout]) -> None:
        super().__init__()
        self.readouts, self.settings = readouts, config.model_dump(mode="json")
        self.is_activated = config.hidden_features == "activated"

    def compile_for_training(self) -> None:
        """Let torch.compile fuse the operations from the next call on, for images and for any length of text."""
        self.compile(dynamic=True)

    def _start(self) -> None:
        """Small normal weights and no biases, as BERT starts."""
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                nn.init.zeros_(part.bias)


class SharedTransformer(SharedEncoder):
    """Transformer blocks for images and texts alike; there is no norm behind the last one."""

    def __init__(self, width: int, config: SharedTransformerConfig, readouts: dict[Modality, Readout]) -> None:
        super().__init__(config, readouts)
        hidden = int(width * config.mlp_ratio)
        self.widths = (width, hidden)
        self.token_types: nn.Parameter | None = None
        if config.token_types:
            self.token_types = nn.Parameter(torch.empty(2, width))
            self.token_type_scale = nn.Parameter(torch.full((width,), config.token_type_scale))
        given = config.model_dump(include={"num_heads", "layer_scale", "dropout", "drop_path_rate"})
        self.blocks = nn.ModuleList(
            SharedBlock(width, hidden, **given, is_activated=self.is_activated) for _ in range(config.num_layers)
        )
        self._start()
        if self.token_types is not None:
            nn.init.normal_(self.token_types, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """Names of embeddings, as timm's towers give theirs; see `AdamWConfig.decay_embeddings`."""
        return {"token_types"}

    def forward(
        self, tokens: Float[Tensor, "B L D"], mask: Bool[Tensor, "B L"] | None, modality: Modality
    ) -> tuple[Float[Tensor, "B D"], Layers]:
        """What stands for each after the last block, and as the one inner layer its hidden features in that block.

        The mask is True where a token stands, and None where all are; padding does not change the result.
        """
        if self.token_types is not None:
            tokens = tokens + self.token_type_scale * self.token_types[TOKEN_TYPE_ROWS[modality]]
        readout = self.readouts[modality]
        *others, last = self.blocks
        for block in others:
            tokens, _ = self.run_layer(block, tokens, mask, None)
        # Nobody reads the last block's other tokens, so with a class token it gives that one alone
        tokens, hidden = self.run_layer(last, tokens, mask, 1 if readout == "cls" else None)
        return read_tokens(tokens, mask, readout), (read_tokens(hidden, mask, readout),)


class SharedMlp(SharedEncoder):
    """Linear, GELU and LayerNorm a hidden layer, then a linear layer back to the width."""

    def __init__(self, width: int, config: SharedMlpConfig, readouts: dict[Modality, Readout]) -> None:
        super().__init__(config, readouts)
        self.widths = (width, *config.hidden_widths)
        sizes = zip(self.widths, config.hidden_widths, strict=False)
        self.hidden = nn.ModuleList(nn.Linear(before, after) for before, after in sizes)
        self.norms = nn.ModuleList(nn.LayerNorm(size, eps=NORM_EPS) for size in config.hidden_widths)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden_widths[-1], width)
        self._start()

    def forward(
        self, tokens: Float[Tensor, "B L D"], mask: Bool[Tensor, "B L"] | None, modality: Modality
    ) -> tuple[Float[Tensor, "B D"], Layers]:
        """As of `SharedTransformer.forward`, and each hidden layer as an inner one."""
        states = read_tokens(tokens, mask, self.readouts[modality])
        layers = []
        for linear, norm in zip(self.hidden, self.norms, strict=True):
            states = linear(states)
            activated = F.gelu(states)
            layers.append(activated if self.is_activated else states)
            states = norm(self.dropout(activated))
        return self.output(states), tuple(layers)
