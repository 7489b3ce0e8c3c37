"""The text tower of CLIP and its kin: attention layers, and convolutions over the sequence in the place of some.

With 12 layers of attention it is the tower of CLIP, https://arxiv.org/abs/2103.00020, of TinyCLIP and of the larger
MobileCLIPs; with convolutions first and last, that of MobileCLIP-S0, https://arxiv.org/abs/2311.17049.
"""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip.models.readout import read_tokens
from pocketclip.models.text.feed_forward import FeedForward
from pocketclip.models.text.mixer import ConvolutionLayer
from pocketclip.models.text.passes import TEXTS_A_PASS, pass_by_length, pass_once
from pocketclip.models.tower import Checkpointed, TextTower, with_the_rest

PADDING = 0
"""The id that fills texts up."""


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
    """Tokens to one feature a text; CLIP's text projection is not here but the model's text head.

    The arguments are the settings of `ClipTextEncoderConfig` that shape it.
    """

    def __init__(
        self,
        *,
        width: int,
        num_layers: int,
        num_heads: int,
        feed_forward_ratio: float,
        convolution_layers: Sequence[int],
        kernel_size: int,
        activation: str,
        causal: bool,
        padding: str,
        pooling: str,
        vocabulary_size: int,
        context_length: int,
        frozen_layers: int,
    ) -> None:
        super().__init__()
        self._make_up = {
            "kind": "clip",
            "width": width,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "feed_forward_ratio": feed_forward_ratio,
            "convolution_layers": list(convolution_layers),
            "kernel_size": kernel_size,
            "activation": activation,
            "causal": causal,
            "padding": padding,
            "pooling": pooling,
            "context_length": context_length,
        }
        self.pooling, self.causal, self.context_length = pooling, causal, context_length
        self.sees_padding = padding == "seen"
        self.feature_dim = width
        self.token_embedding = nn.Embedding(vocabulary_size, width)
        self.position_embedding = nn.Parameter(torch.empty(context_length, width))
        hidden = int(width * feed_forward_ratio)
        self.layers = nn.ModuleList(
            ConvolutionLayer(width, hidden, kernel_size, activation)
            if number in convolution_layers
            else AttentionLayer(width, num_heads, hidden, activation, causal=causal)
            for number in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self._initialise()
        self.frozen_modules = self.layers_in_order[:frozen_layers]
        self._describe()

    def _describe(self) -> None:
        size = self.token_embedding.num_embeddings
        self.architecture = {"model_type": "clip", "vocab_size": size, "max_position_embeddings": self.context_length}
        self.settings = {**self._make_up, "vocabulary_size": size}

    @property
    def frozen_parameters(self) -> list[nn.Parameter]:
        return [*super().frozen_parameters, self.position_embedding] if self.frozen_modules else []

    @property
    def layers_in_order(self) -> list[nn.Module]:
        return [self.token_embedding, *self.layers]

    @property
    def parameters_by_layer(self) -> list[list[nn.Parameter]]:
        words, *layers = ([*layer.parameters()] for layer in self.layers_in_order)
        return with_the_rest([[*words, self.position_embedding], *layers], self)

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

    def word_states(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        count, tokens = tokens.shape[1], tokens.masked_fill(~token_mask, PADDING)
        missing = self.context_length - count if self.sees_padding else 0
        states = self._states(F.pad(tokens, (0, missing)), F.pad(token_mask, (0, missing)))
        normed: Tensor = self.norm(states[:, :count])
        return normed

    def _states(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        states = self.token_embedding(tokens) + self.position_embedding[: tokens.shape[1]]
        # The first place counts even where a text has no token: attention to nothing is no number
        mask = None if self.causal or self.sees_padding else F.pad(token_mask[:, 1:], (1, 0), value=True)
        for layer in self.layers:
            states = self.run_layer(layer, states, mask)
        return states  # type: ignore[no-any-return]  # of the parameters

    def _pass(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        states = self._states(tokens, token_mask)
        if self.pooling == "mean":
            return read_tokens(self.norm(states), token_mask, "mean")
        place = tokens.argmax(1) if self.pooling == "eot" else (token_mask.sum(1) - 1).clamp(min=0)
        pooled: Tensor = self.norm(states[torch.arange(len(states), device=states.device), place])
        return pooled
