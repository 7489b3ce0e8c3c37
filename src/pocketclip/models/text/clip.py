"""The text tower of CLIP and its kin: attention layers, and convolutions over the sequence in the place of some.

With 12 layers of attention it is the tower of CLIP, https://arxiv.org/abs/2103.00020, of TinyCLIP and of the larger
MobileCLIPs; with convolutions first and last, that of MobileCLIP-S0, https://arxiv.org/abs/2311.17049.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip.config import Config
from pocketclip.models.origin.inherit import InheritConfig
from pocketclip.models.readout import read_tokens
from pocketclip.models.text.byte_pairs import clip_tokenizer
from pocketclip.models.text.feed_forward import FeedForward
from pocketclip.models.text.mixer import ConvolutionLayer
from pocketclip.models.text.passes import TEXTS_A_PASS, pass_by_length, pass_once
from pocketclip.models.tower import Checkpointed, TextTower
from pocketclip.tokenizer import Tokenizer, TokenizerKind, check_tokenizer_settings

PADDING = 0
"""The id that fills texts up."""
NOT_MAKE_UP = {"tokenizer", "tokenizer_kind", "vocabulary", "pretrained", "frozen_layers", "inherit"}
"""Settings that do not shape what a built tower computes."""


class ClipTextEncoderConfig(Config):
    """A transformer of CLIP's make, with convolutions in the place of any of its layers."""

    gives_tokens: ClassVar[bool] = False

    kind: Literal["clip"] = "clip"
    width: PositiveInt = 512
    num_layers: PositiveInt = 12
    num_heads: PositiveInt = 8
    feed_forward_ratio: PositiveFloat = 4.0
    """Width of the feed-forward parts, in widths of the tower."""
    convolution_layers: tuple[NonNegativeInt, ...] = ()
    """Layers (0 is the first) that convolve over the sequence where the others attend; MobileCLIP-S0 has the first and
    the last of six."""
    kernel_size: PositiveInt = 11
    """Tokens that a convolution sees; odd."""
    activation: Literal["gelu", "quick_gelu"] = "gelu"
    """`quick_gelu` is what OpenAI's own weights were trained with."""
    causal: bool = True
    """Whether tokens attend to earlier ones only, as in CLIP."""
    padding: Literal["hidden", "seen"] = "hidden"
    """`seen` fills every text up to `context_length` with id 0, and the filling takes part like tokens: the larger
    MobileCLIPs were trained so, at the price of computing the whole length for the shortest text. `hidden` leaves it
    out. Either way a text's feature does not depend on the texts beside it."""
    pooling: Literal["eot", "last", "mean"] = "eot"
    """`eot`: the token with the highest id, which in CLIP's vocabulary ends the text; `last`: the last token, for other
    vocabularies; `mean`: of all tokens."""
    vocabulary_size: PositiveInt = 49_408
    """Ids that are embedded; of a tokenizer learned from captions, the most it may have."""
    context_length: PositiveInt = 77
    tokenizer: str = "clip"
    """`clip` (CLIP's 49,408 byte pairs, from the open_clip package or the hub), `captions` (a small one learned from
    the training captions), or a file: a `tokenizer.json`, or byte pairs as CLIP publishes them."""
    tokenizer_kind: TokenizerKind = "wordpiece"
    """Of a tokenizer learned from captions."""
    vocabulary: Literal["all", "occurring"] = "all"
    """`occurring` drops what neither the training captions nor single letters need, from the tokenizer and from the
    table of word embeddings; other words are then split further."""
    pretrained: Literal["none"] = "none"
    """Weights come with the whole model: see `model.pretrained`."""
    frozen_layers: NonNegativeInt = 0
    """Leading layers, the embeddings first, that stay as pretrained in training."""
    inherit: "InheritConfig[ClipTextEncoderConfig] | None" = None
    """A larger tower to start from."""

    @model_validator(mode="after")
    def _parts_fit_together(self) -> "ClipTextEncoderConfig":
        check_tokenizer_settings(self.tokenizer, self.tokenizer_kind, self.vocabulary)
        if self.tokenizer == "captions" and self.pooling == "eot":
            raise ValueError("pooling: eot knows the end of a text in CLIP's vocabulary only; take last or mean")
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} should be a multiple of num_heads {self.num_heads}")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size should be odd (got {self.kernel_size})")
        if any(layer >= self.num_layers for layer in self.convolution_layers):
            raise ValueError(f"convolution_layers: there are layers 0 to {self.num_layers - 1}")
        if self.causal and self.convolution_layers:
            raise ValueError("convolution_layers look ahead, so causal should be false with them")
        if self.causal and self.padding == "seen":
            raise ValueError("padding: seen has no effect on a causal tower, whose tokens do not look ahead")
        if self.frozen_layers > self.num_layers:
            raise ValueError(f"frozen_layers: there are embeddings and {self.num_layers} layers")
        return self

    @property
    def name(self) -> str:
        """What the tower is, in a few words."""
        convolutions = f", {len(self.convolution_layers)} of them convolutions" if self.convolution_layers else ""
        return f"transformer of {self.num_layers} x {self.width}{convolutions}"

    def build(self, *, load_pretrained: bool = True, vocabulary_size: int | None = None) -> "ClipTextEncoder":
        """Create the tower with random weights, or with a larger one's unless `load_pretrained` is False.

        A given `vocabulary_size` replaces the config's own, for a tokenizer learned from captions.
        """
        size = self.vocabulary_size if vocabulary_size is None else vocabulary_size
        encoder = ClipTextEncoder(self.model_copy(update={"vocabulary_size": size}))
        if self.inherit is not None and load_pretrained:
            self.inherit.fill(encoder, ClipTextEncoderConfig, "text_encoder")
        return encoder

    def build_tokenizer(self) -> Tokenizer:
        """The tokenizer that `tokenizer` names; `captions` is not built here but with the data at hand.

        Raises:
            UserError: it cannot be had.
        """
        if self.tokenizer == "clip" or self.tokenizer.endswith(".gz"):
            return clip_tokenizer(self.tokenizer, context_length=self.context_length)
        return Tokenizer.from_file(Path(self.tokenizer), self.context_length)

    def as_built(self, architecture: Mapping[str, Any]) -> "ClipTextEncoderConfig":
        """The config that builds the tower again whose `architecture` this is."""
        return self.model_copy(update={"vocabulary_size": architecture["vocab_size"]})


class AttentionLayer(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, width: int, num_heads: int, hidden: int, activation: str, *, causal: bool) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.causal = num_heads, width // num_heads, causal
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden, activation)

    def forward(self, states: Float[Tensor, "M L W"], token_mask: Bool[Tensor, "M L"] | None) -> Float[Tensor, "M L W"]:
        """The mask is True for what may be attended to; None for all, or all earlier ones if causal."""
        states = states + self._attend(self.attention_norm(states), token_mask)
        output: Tensor = states + self.feed_forward(self.feed_forward_norm(states))
        return output

    def _attend(self, states: Tensor, token_mask: Tensor | None) -> Tensor:
        packed = self.query_key_value(states).unflatten(2, (3, self.num_heads, -1))
        query, key, value = packed.permute(2, 0, 3, 1, 4)  # (M, heads, L, W / heads)
        mask = None if token_mask is None else token_mask[:, None, None]
        causal = self.causal and token_mask is None
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
        output: Tensor = self.attention_output(attended.transpose(1, 2).flatten(2))
        return output


class ClipTextEncoder(Checkpointed, TextTower):
    """Tokens to one feature a text; CLIP's text projection is not here but the model's text head."""

    def __init__(self, config: ClipTextEncoderConfig) -> None:
        super().__init__()
        self.pooling, self.causal, self.context_length = config.pooling, config.causal, config.context_length
        self.sees_padding = config.padding == "seen"
        self.feature_dim = width = config.width
        self.token_embedding = nn.Embedding(config.vocabulary_size, width)
        self.position_embedding = nn.Parameter(torch.empty(config.context_length, width))
        hidden = int(width * config.feed_forward_ratio)
        self.layers = nn.ModuleList(
            ConvolutionLayer(width, hidden, config.kernel_size, config.activation)
            if number in config.convolution_layers
            else AttentionLayer(width, config.num_heads, hidden, config.activation, causal=config.causal)
            for number in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self._initialise()
        self.frozen_modules = [self.token_embedding, *self.layers][: config.frozen_layers]
        self._make_up = config.model_dump(mode="json", exclude=NOT_MAKE_UP)
        self._describe()

    def _describe(self) -> None:
        size = self.token_embedding.num_embeddings
        self.architecture = {"model_type": "clip", "vocab_size": size, "max_position_embeddings": self.context_length}
        self.settings = {**self._make_up, "vocabulary_size": size}

    @property
    def frozen_parameters(self) -> list[nn.Parameter]:
        return [*super().frozen_parameters, self.position_embedding] if self.frozen_modules else []

    @torch.no_grad()
    def _initialise(self) -> None:
        """As CLIP begins: the deeper the tower, the less each layer adds."""
        width = self.feature_dim
        added = (2 * width * len(self.layers)) ** -0.5
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding, std=0.01)
        for layer in self.layers:
            if isinstance(layer, AttentionLayer):
                nn.init.normal_(layer.query_key_value.weight, std=width**-0.5)
                nn.init.zeros_(layer.query_key_value.bias)
                nn.init.normal_(layer.attention_output.weight, std=added)
                nn.init.zeros_(layer.attention_output.bias)
                nn.init.normal_(layer.feed_forward.expand.weight, std=(2 * width) ** -0.5)
                nn.init.normal_(layer.feed_forward.contract.weight, std=added)

    def needed_tokens(self) -> set[int]:
        return {PADDING} if self.sees_padding else set()

    def keep_tokens(self, kept: Sequence[int]) -> None:
        weight = self.token_embedding.weight
        self.token_embedding.weight = nn.Parameter(weight.detach()[list(kept)].clone())
        self.token_embedding.num_embeddings = len(kept)
        self._describe()

    def forward(self, tokens: Int[Tensor, "M L"], token_mask: Bool[Tensor, "M L"]) -> Float[Tensor, "M W"]:
        """One feature a text, not normalised; L is at most `context_length`, and padding does not change the result."""
        tokens = tokens.masked_fill(~token_mask, PADDING)
        if self.sees_padding:
            missing = self.context_length - tokens.shape[1]
            return self._pass(F.pad(tokens, (0, missing)), F.pad(token_mask, (0, missing)))
        is_long = tokens.device.type == "cpu" and len(tokens) > TEXTS_A_PASS
        # A batch norm in training would see the difference between a batch and its parts
        if is_long and not any(isinstance(module, nn.BatchNorm2d) and module.training for module in self.modules()):
            return pass_once(partial(pass_by_length, self._pass), tokens, token_mask)
        return self._pass(tokens, token_mask)

    def _pass(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        states = self.token_embedding(tokens) + self.position_embedding[: tokens.shape[1]]
        # The first place counts even where a text has no token: attention to nothing is no number
        mask = None if self.causal or self.sees_padding else F.pad(token_mask[:, 1:], (1, 0), value=True)
        for layer in self.layers:
            states = self.run_layer(layer, states, mask)
        if self.pooling == "mean":
            return read_tokens(self.norm(states), token_mask, "mean")
        place = tokens.argmax(1) if self.pooling == "eot" else (token_mask.sum(1) - 1).clamp(min=0)
        pooled: Tensor = self.norm(states[torch.arange(len(states), device=states.device), place])
        return pooled
