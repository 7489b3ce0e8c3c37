"""BERT for encoding queries: the bits of transformers' BertModel, under its names, and nothing else to load.

transformers imports 165 modules for it, torch's compilers and distributed tensors among them, which takes longer than
torch itself. Training and all other architectures go through transformers.
"""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NEEDED = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"}
NEEDED |= {"max_position_embeddings", "type_vocab_size", "layer_norm_eps"}
PLAIN = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
PLAIN |= {"chunk_size_feed_forward": 0}
"""Settings that change what is computed, as they must be, or be left out."""


def is_plain_bert(architecture: Mapping[str, Any]) -> bool:
    """Whether this is all that an architecture is."""
    is_plain = all(architecture.get(key, plain) == plain for key, plain in PLAIN.items())
    return architecture.get("model_type") == "bert" and is_plain and architecture.keys() >= NEEDED


class Bert(nn.Module):
    """Tokens and their mask to the states of all tokens."""

    def __init__(self, architecture: Mapping[str, Any], num_layers: int | None = None) -> None:
        super().__init__()
        of = SimpleNamespace(**architecture)
        self.config = SimpleNamespace(**{**architecture, "num_hidden_layers": num_layers or of.num_hidden_layers})
        self.config.to_diff_dict = lambda: dict(architecture)
        self.num_heads = of.num_attention_heads
        width, hidden = of.hidden_size, of.intermediate_size

        def linear(num_inputs: int, num_outputs: int, *, norm: bool = False) -> nn.ModuleDict:
            layers: dict[str, nn.Module] = {"dense": nn.Linear(num_inputs, num_outputs)}
            return nn.ModuleDict(layers | ({"LayerNorm": nn.LayerNorm(width, eps=of.layer_norm_eps)} if norm else {}))

        def layer() -> nn.ModuleDict:
            projections = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
            attention = nn.ModuleDict({"self": projections, "output": linear(width, width, norm=True)})
            parts = {"intermediate": linear(width, hidden), "output": linear(hidden, width, norm=True)}
            return nn.ModuleDict({"attention": attention, **parts})

        tables = {"word": of.vocab_size, "position": of.max_position_embeddings, "token_type": of.type_vocab_size}
        embeddings: dict[str, nn.Module] = {f"{name}_embeddings": nn.Embedding(n, width) for name, n in tables.items()}
        self.embeddings = nn.ModuleDict({**embeddings, "LayerNorm": nn.LayerNorm(width, eps=of.layer_norm_eps)})
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layer() for _ in range(self.config.num_hidden_layers))})

    def get_input_embeddings(self) -> nn.Module:
        """The table of words."""
        return self.embeddings["word_embeddings"]

    def forward(self, input_ids: Tensor, attention_mask: Tensor, output_hidden_states: bool = False) -> SimpleNamespace:
        """As of BertModel: `last_hidden_state`, and in `hidden_states` what each layer was given and gave."""
        del output_hidden_states  # they cost nothing
        count, parts = input_ids.shape[1], self.embeddings
        first = torch.zeros(1, count, dtype=torch.long, device=input_ids.device)
        states = parts["word_embeddings"](input_ids) + parts["token_type_embeddings"](first)
        states = states + parts["position_embeddings"](torch.arange(count, device=input_ids.device)[None])
        all_states = [parts["LayerNorm"](states)]
        mask = None
        if not attention_mask.all():  # without one there are faster ways to attend
            mask = attention_mask.bool()[:, None, None].expand(-1, 1, count, -1)
        layers: Any = self.encoder["layer"]
        for layer in layers:
            all_states.append(self._layer(layer, all_states[-1], mask))
        return SimpleNamespace(last_hidden_state=all_states[-1], hidden_states=tuple(all_states))

    def _layer(self, layer: Any, states: Tensor, mask: Tensor | None) -> Tensor:
        attention, projections = layer["attention"], layer["attention"]["self"]
        query, key, value = (
            projections[name](states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
        states = attention["output"]["LayerNorm"](attention["output"]["dense"](attended) + states)
        hidden = F.gelu(layer["intermediate"]["dense"](states))
        output: Tensor = layer["output"]["LayerNorm"](layer["output"]["dense"](hidden) + states)
        return output
