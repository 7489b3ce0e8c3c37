"""Any Hugging Face text tower by its name or path."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pocketclip.errors import UserError, first_line, require
from pocketclip.models.readout import read_tokens
from pocketclip.models.text.bert import Bert, is_plain_bert
from pocketclip.models.text.passes import TEXTS_A_PASS, pass_by_length
from pocketclip.models.tower import TextTower

NAMED_TOKENS = tuple(f"{name}_token_id" for name in ("pad", "bos", "eos", "cls", "sep", "mask"))
"""Ids that an architecture may hold."""


def quick_tower(architecture: Mapping[str, Any], num_layers: int | None) -> nn.Module | None:
    """A tower that loads without transformers, for encoding queries; None where that library is needed."""
    if not is_plain_bert(architecture):
        return None
    try:
        return Bert(architecture, num_layers)
    except (TypeError, ValueError, RuntimeError):  # what is wrong with it, transformers says
        return None


def random_tower(name: str, architecture: Mapping[str, Any], num_layers: int | None, context_length: int) -> Any:
    """A tower of an architecture with random weights, or only its first layers.

    Raises:
        UserError: there is no such architecture, it has a decoder, or too few layers or positions.
    """
    transformers = require("transformers", extra="train")
    try:
        config = transformers.AutoConfig.for_model(**architecture)
        if num_layers is not None:
            if num_layers > (depth := config.num_hidden_layers):
                raise UserError(f"num_layers: {name} has {depth} layers (got {num_layers}).")
            config.num_hidden_layers = num_layers
        tower = transformers.AutoModel.from_config(config)
    except UserError:
        raise
    except Exception as error:  # every architecture checks its settings in its own way
        raise UserError(f"{name}: not an architecture that transformers can build ({first_line(error)}).") from error
    if getattr(tower, "pooler", None) is not None:
        tower.pooler = None  # trained for next-sentence prediction, unused here and not to be counted
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"{name}: {config.model_type} has a decoder too; choose a tower that only encodes.")
    padding, limit = _position_padding(tower), getattr(config, "max_position_embeddings", None)
    limit = limit if limit is None or padding is None else limit - padding - 1
    if limit and context_length > limit:
        raise UserError(f"context_length: {name} takes at most {limit} tokens (got {context_length}).")
    return tower


def _position_padding(tower: Any) -> int | None:
    """The padding id where positions are counted from behind it, as RoBERTa and its kin do."""
    positions = getattr(getattr(tower, "embeddings", None), "position_embeddings", None)
    padding: int | None = getattr(positions, "padding_idx", None)
    return padding


class HuggingFaceTextEncoder(TextTower):
    """A transformers tower that pools its tokens into one feature a text."""

    def __init__(
        self,
        tower: Any,
        pooling: Literal["mean", "cls", "eot"],
        joined_layers: tuple[int, ...] = (),
        frozen_layers: int = 0,
    ) -> None:
        super().__init__()
        self.tower: Any = tower
        self.pooling, self.joined_layers, self.gives_tokens = pooling, joined_layers, False
        num_layers, width = int(tower.config.num_hidden_layers), int(tower.config.hidden_size)
        if any(not 0 <= layer < num_layers for layer in self.joined_layers):
            raise UserError(f"joined_layers: this tower has layers 0 to {num_layers - 1} (got {self.joined_layers}).")
        self.feature_dim = width * (1 + len(self.joined_layers))
        if frozen_layers:
            layers = self.layers_in_order
            if frozen_layers >= len(layers):
                raise UserError(
                    f"frozen_layers: this tower has embeddings and {len(layers) - 1} layers (got {frozen_layers})."
                )
            self.frozen_modules = layers[:frozen_layers]
        self._describe()

    @property
    def layers_in_order(self) -> list[nn.Module]:
        """The word embeddings and the layers."""
        lists = [module for module in self.tower.modules() if isinstance(module, nn.ModuleList)]
        words = getattr(self.tower, "embeddings", None) or self.tower.get_input_embeddings()
        return [words, *max(lists, key=len, default=())]

    def _describe(self) -> None:
        settings = self.tower.config
        self.architecture = {"model_type": settings.model_type, **settings.to_diff_dict()}
        own = {"gives_tokens": True} if self.gives_tokens else {}
        self.settings = {"pooling": self.pooling, "joined_layers": self.joined_layers, **self.architecture, **own}

    def needed_tokens(self) -> set[int]:
        """Ids that the architecture names, and those that its positions are counted from."""
        settings = self.tower.config
        named = {number for name in NAMED_TOKENS if isinstance(number := getattr(settings, name, None), int)}
        padding = _position_padding(self.tower)
        return named if padding is None else named | set(range(padding + 1))  # positions are counted from its number

    def keep_tokens(self, kept: Sequence[int]) -> None:
        table, settings = self.tower.get_input_embeddings(), self.tower.config
        new = {old: number for number, old in enumerate(kept)}
        table.weight = nn.Parameter(table.weight.detach()[list(kept)].clone())
        table.num_embeddings = settings.vocab_size = len(kept)
        table.padding_idx = new.get(table.padding_idx)
        for name in NAMED_TOKENS:
            if getattr(settings, name, None) is not None:
                setattr(settings, name, new.get(getattr(settings, name)))
        self._describe()

    def checkpoint_activations(self) -> None:
        self.tower.config.use_cache = False  # or every step says that it goes without
        new_name = "activation_checkpointing_enable"  # since transformers 5.20
        (getattr(self.tower, new_name, None) or self.tower.gradient_checkpointing_enable)({"use_reentrant": False})

    def compile_for_training(self) -> None:
        self.tower.compile(dynamic=True)

    def give_tokens(self) -> None:
        """From now on give the last layer's states of all tokens, padding too."""
        self.gives_tokens = True
        self._describe()

    def forward(self, tokens: Int[Tensor, "M L"], token_mask: Bool[Tensor, "M L"]) -> Float[Tensor, "M ... F"]:
        """(M, F), or (M, L, F) after `give_tokens`, not normalised; padding does not change the result."""
        if self.gives_tokens:
            return self.word_states(tokens, token_mask)
        if tokens.device.type == "cpu" and len(tokens) > TEXTS_A_PASS:
            return pass_by_length(self._pass, tokens, token_mask, texts_a_pass=TEXTS_A_PASS)
        return self._pass(tokens, token_mask)

    def word_states(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        states: Tensor = self.tower(input_ids=tokens, attention_mask=token_mask.long()).last_hidden_state
        return states

    def _pass(self, tokens: Int[Tensor, "M L"], token_mask: Bool[Tensor, "M L"]) -> Float[Tensor, "M F"]:
        with_layers = bool(self.joined_layers)
        output = self.tower(input_ids=tokens, attention_mask=token_mask.long(), output_hidden_states=with_layers)
        layers = [*(output.hidden_states[layer] for layer in self.joined_layers), output.last_hidden_state]
        if self.pooling == "eot":
            rows, last = torch.arange(len(tokens), device=tokens.device), token_mask.sum(1) - 1
            return torch.cat([states[rows, last] for states in layers], dim=1)
        return torch.cat([read_tokens(states, token_mask, self.pooling) for states in layers], dim=1)
