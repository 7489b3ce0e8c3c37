"""The transformer block of a shared encoder, as S-SMKE has it: pre-norm, with a scale a channel on each half."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPS = 1e-6


class SharedBlock(nn.Module):
    """Attention and feed-forward layer, each behind a norm and added to what came in."""

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        num_heads: int,
        layer_scale: float | None,
        dropout: float,
        drop_path_rate: float,
        is_activated: bool,
    ) -> None:
        super().__init__()
        self.num_heads, self.drop_path_rate, self.is_activated = num_heads, drop_path_rate, is_activated
        self.attention_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.attention_output = nn.Linear(width, width)
        self.feed_forward_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.expand, self.contract = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)
        scales = [None if layer_scale is None else nn.Parameter(torch.full((width,), layer_scale)) for _ in range(2)]
        self.attention_scale, self.feed_forward_scale = scales

    def forward(
        self, tokens: Float[Tensor, "B L D"], mask: Bool[Tensor, "B L"] | None, num_queries: int | None = None
    ) -> tuple[Float[Tensor, "B Q D"], Float[Tensor, "B Q H"]]:
        """The first Q tokens after the block, all L for None, and their hidden features in its feed-forward layer.

        The mask is True where a token stands that others may look at; None for all.
        """
        kept = tokens[:, :num_queries]
        kept = self._add(kept, self._attend(tokens, mask, num_queries), self.attention_scale)
        linear = self.expand(self.feed_forward_norm(kept))
        activated = F.gelu(linear)
        added = self.dropout(self.contract(self.dropout(activated)))
        return self._add(kept, added, self.feed_forward_scale), activated if self.is_activated else linear

    def _attend(self, tokens: Tensor, mask: Tensor | None, num_queries: int | None) -> Tensor:
        normed = self.attention_norm(tokens)
        query = self._heads(self.query(normed[:, :num_queries]))
        key, value = map(self._heads, self.key_value(normed).chunk(2, dim=-1))
        seen = None if mask is None else mask[:, None, None, :]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        output: Tensor = self.dropout(self.attention_output(attended.transpose(1, 2).flatten(2)))
        return output

    def _heads(self, states: Tensor) -> Tensor:
        heads: Tensor = states.unflatten(-1, (self.num_heads, -1))
        return heads.transpose(1, 2)

    def _add(self, tokens: Tensor, added: Tensor, scale: Tensor | None) -> Tensor:
        if scale is not None:
            added = added * scale
        if self.training and self.drop_path_rate:  # whole samples go without this half of the block
            kept = torch.rand(len(added), 1, 1, device=added.device) >= self.drop_path_rate
            added = added * (kept / (1 - self.drop_path_rate)).to(added.dtype)
        return tokens + added
