"""The encoder that images and texts share: both pass through the same blocks, one after the other, never together.

It takes the tokens of two pretrained towers. Reference: S-SMKE, Tim Cares, https://github.com/TimCares/EV-LP, in which
it is one pre-norm transformer block, or, as an ancestor, a perceptron.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip.models.readout import Modality, Readout, read_tokens
from pocketclip.models.shared_block import NORM_EPS, SharedBlock
from pocketclip.models.tower import Checkpointed

Layers = tuple[Float[Tensor, "B _"], ...]
"""The inner layers that an objective may look at, first to last."""
TOKEN_TYPE_ROWS: dict[Modality, int] = {"text": 0, "image": 1}


class SharedEncoder(Checkpointed):
    """Tokens of images and of texts, which never meet, to a vector each."""

    widths: tuple[int, ...]
    """Of the output and of each inner layer."""

    if TYPE_CHECKING:

        def __call__(self, tokens: Tensor, mask: Tensor | None, modality: Modality) -> tuple[Tensor, Layers]: ...

    def __init__(self, readouts: dict[Modality, Readout], settings: Mapping[str, Any], *, hidden_features: str) -> None:
        super().__init__()
        self.readouts, self.settings = readouts, dict(settings)
        self.is_activated = hidden_features == "activated"

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

    def __init__(
        self,
        width: int,
        readouts: dict[Modality, Readout],
        *,
        settings: Mapping[str, Any],
        hidden_features: str,
        num_layers: int,
        num_heads: int,
        mlp_ratio: float,
        layer_scale: float | None,
        token_types: bool,
        token_type_scale: float,
        dropout: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__(readouts, settings, hidden_features=hidden_features)
        hidden = int(width * mlp_ratio)
        self.widths = (width, hidden)
        self.token_types: nn.Parameter | None = None
        if token_types:
            self.token_types = nn.Parameter(torch.empty(2, width))
            self.token_type_scale = nn.Parameter(torch.full((width,), token_type_scale))
        self.blocks = nn.ModuleList(
            SharedBlock(
                width,
                hidden,
                num_heads=num_heads,
                layer_scale=layer_scale,
                dropout=dropout,
                drop_path_rate=drop_path_rate,
                is_activated=self.is_activated,
            )
            for _ in range(num_layers)
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

    def __init__(
        self,
        width: int,
        readouts: dict[Modality, Readout],
        *,
        settings: Mapping[str, Any],
        hidden_features: str,
        hidden_widths: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__(readouts, settings, hidden_features=hidden_features)
        self.widths = (width, *hidden_widths)
        sizes = zip(self.widths, hidden_widths, strict=False)
        self.hidden = nn.ModuleList(nn.Linear(before, after) for before, after in sizes)
        self.norms = nn.ModuleList(nn.LayerNorm(size, eps=NORM_EPS) for size in hidden_widths)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_widths[-1], width)
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
