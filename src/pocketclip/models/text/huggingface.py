"""Any Hugging Face text tower by its name or path."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from pocketclip.config import Config
from pocketclip.errors import UserError, first_line, require
from pocketclip.models.origin.inherit import InheritConfig
from pocketclip.models.origin.weights import TEXT_PACKAGES
from pocketclip.models.readout import read_tokens
from pocketclip.models.text.huggingface_folder import fill_tower, find_architecture, hub_folder, tower_folder
from pocketclip.models.text.passes import TEXTS_A_PASS, pass_by_length
from pocketclip.models.tower import TextTower
from pocketclip.tokenizer import Tokenizer, TokenizerKind, check_tokenizer_settings

BERT_VOCABULARY = "all-MiniLM-L6-v2"
"""The packaged tower whose tokenizer is that of bert-base-uncased and distilbert-base-uncased (30,522 ids)."""
NAMED_TOKENS = tuple(f"{name}_token_id" for name in ("pad", "bos", "eos", "cls", "sep", "mask"))
"""Ids that an architecture may hold."""


class HuggingFaceTextEncoderConfig(Config):
    """A transformers model without head or pooler."""

    gives_tokens: ClassVar[bool] = True

    kind: Literal["huggingface"] = "huggingface"
    name: str
    """A hub name such as `distilbert-base-uncased`, or `all-MiniLM-L6-v2` from its pip package."""
    pretrained: str = "hub"
    """`hub`, `package` (a pip package carries the weights), `none`, or a folder as transformers saves it."""
    tokenizer: str = "model"
    """`model` (the one that belongs to it), `bert` (BERT's uncased vocabulary from a pip package), `captions`
    (a small one learned from the training captions), or a `tokenizer.json`."""
    tokenizer_kind: TokenizerKind = "wordpiece"
    """Of a tokenizer learned from captions."""
    vocabulary: Literal["all", "occurring"] = "all"
    """`occurring` drops what neither the training captions nor single letters need, from the tokenizer and from the
    table of word embeddings; other words are then split further."""
    vocabulary_size: PositiveInt = 8192
    """Of a tokenizer learned from captions; no effect on others."""
    context_length: PositiveInt = 64
    pooling: Literal["mean", "cls", "eot"] = "mean"
    """`mean` over the tokens, the first token, or the last one."""
    joined_layers: tuple[int, ...] = ()
    """Layers (0 is the word embeddings) whose pooled states are joined before the last layer's."""
    frozen_layers: NonNegativeInt = 0
    """Leading layers, the word embeddings first, that stay as pretrained in training."""
    num_layers: PositiveInt | None = None
    """Only the first layers; None keeps all."""
    architecture: dict[str, Any] | None = None
    """The model's own configuration; what it leaves out is looked up by name. A bundle holds all of it."""
    inherit: "InheritConfig[HuggingFaceTextEncoderConfig] | None" = None
    """A larger tower to start from, with `pretrained: none`; `architecture` says what is smaller here."""

    @model_validator(mode="after")
    def _settings_fit_together(self) -> "HuggingFaceTextEncoderConfig":
        check_tokenizer_settings(self.tokenizer, self.tokenizer_kind, self.vocabulary)
        if self.inherit is not None and self.pretrained != "none":
            raise ValueError(f"inherit brings the weights, so pretrained should be none (got {self.pretrained})")
        return self

    def build(self, *, load_pretrained: bool = True, vocabulary_size: int | None = None) -> "HuggingFaceTextEncoder":
        """Create the tower, without `load_pretrained` with random weights, for a bundle that brings its own.

        A given `vocabulary_size` replaces the architecture's own, for a tokenizer learned from captions.

        Raises:
            UserError: unknown name, or weights that cannot be had.
        """
        transformers = require("transformers", extra="train")
        origin = self.pretrained if load_pretrained else "none"
        architecture = dict(self.architecture or {})
        if "model_type" not in architecture:
            architecture = {**find_architecture(self.name, self.pretrained), **architecture}
        if vocabulary_size is not None:
            architecture["vocab_size"] = vocabulary_size
        try:
            config = transformers.AutoConfig.for_model(**architecture)
            if self.num_layers is not None:
                if self.num_layers > (depth := config.num_hidden_layers):
                    raise UserError(f"num_layers: {self.name} has {depth} layers (got {self.num_layers}).")
                config.num_hidden_layers = self.num_layers
            tower = transformers.AutoModel.from_config(config)
        except UserError:
            raise
        except Exception as error:  # every architecture checks its settings in its own way
            raise UserError(
                f"{self.name}: not an architecture that transformers can build ({first_line(error)})."
            ) from error
        if getattr(tower, "pooler", None) is not None:
            tower.pooler = None  # trained for next-sentence prediction, unused here and not to be counted
        if getattr(config, "is_encoder_decoder", False):
            raise UserError(f"{self.name}: {config.model_type} has a decoder too; choose a tower that only encodes.")
        padding, limit = _position_padding(tower), getattr(config, "max_position_embeddings", None)
        limit = limit if limit is None or padding is None else limit - padding - 1
        if limit and self.context_length > limit:
            raise UserError(f"context_length: {self.name} takes at most {limit} tokens (got {self.context_length}).")
        if origin != "none":
            fill_tower(tower, tower_folder(self.name, origin))
        encoder = HuggingFaceTextEncoder(tower, self)
        if self.inherit is not None and load_pretrained:
            self.inherit.fill(encoder, HuggingFaceTextEncoderConfig, "text_encoder")
        return encoder

    def build_tokenizer(self) -> Tokenizer:
        """The tokenizer that `tokenizer` names; `captions` is not built here but with the data at hand.

        Raises:
            UserError: it cannot be had.
        """
        if self.tokenizer not in ("bert", "model"):
            return Tokenizer.from_file(Path(self.tokenizer), self.context_length)
        if self.tokenizer == "bert":
            folder = tower_folder(BERT_VOCABULARY, "package")
        elif self.pretrained == "none" and self.name not in TEXT_PACKAGES:
            folder = hub_folder(self.name, ["tokenizer.json"])
        else:
            folder = tower_folder(self.name, "package" if self.pretrained == "none" else self.pretrained)
        return Tokenizer.from_file(folder / "tokenizer.json", self.context_length)

    def as_built(self, architecture: Mapping[str, Any]) -> "HuggingFaceTextEncoderConfig":
        """The config that builds the tower again whose `architecture` this is, without a hub."""
        return self.model_copy(update={"architecture": dict(architecture)})


def _leading_layers(tower: Any, count: int) -> list[nn.Module]:
    """The word embeddings and the first `count - 1` layers."""
    if count == 0:
        return []
    layers = max((module for module in tower.modules() if isinstance(module, nn.ModuleList)), key=len)
    if count > len(layers):
        raise UserError(f"frozen_layers: this tower has embeddings and {len(layers)} layers (got {count}).")
    return [getattr(tower, "embeddings", None) or tower.get_input_embeddings(), *layers[: count - 1]]


def _position_padding(tower: Any) -> int | None:
    """The padding id where positions are counted from behind it, as RoBERTa and its kin do."""
    positions = getattr(getattr(tower, "embeddings", None), "position_embeddings", None)
    padding: int | None = getattr(positions, "padding_idx", None)
    return padding


class HuggingFaceTextEncoder(TextTower):
    """A transformers tower that pools its tokens into one feature a text."""

    def __init__(self, tower: Any, config: HuggingFaceTextEncoderConfig) -> None:
        super().__init__()
        self.tower: Any = tower
        self.pooling, self.joined_layers, self.gives_tokens = config.pooling, config.joined_layers, False
        num_layers, width = int(tower.config.num_hidden_layers), int(tower.config.hidden_size)
        if any(not 0 <= layer < num_layers for layer in self.joined_layers):
            raise UserError(f"joined_layers: this tower has layers 0 to {num_layers - 1} (got {self.joined_layers}).")
        self.feature_dim = width * (1 + len(self.joined_layers))
        self.frozen_modules = _leading_layers(tower, config.frozen_layers)
        self._describe()

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
            states: Tensor = self.tower(input_ids=tokens, attention_mask=token_mask.long()).last_hidden_state
            return states
        if tokens.device.type == "cpu" and len(tokens) > TEXTS_A_PASS:
            return pass_by_length(self._pass, tokens, token_mask, texts_a_pass=TEXTS_A_PASS)
        return self._pass(tokens, token_mask)

    def _pass(self, tokens: Int[Tensor, "M L"], token_mask: Bool[Tensor, "M L"]) -> Float[Tensor, "M F"]:
        with_layers = bool(self.joined_layers)
        output = self.tower(input_ids=tokens, attention_mask=token_mask.long(), output_hidden_states=with_layers)
        layers = [*(output.hidden_states[layer] for layer in self.joined_layers), output.last_hidden_state]
        if self.pooling == "eot":
            rows, last = torch.arange(len(tokens), device=tokens.device), token_mask.sum(1) - 1
            return torch.cat([states[rows, last] for states in layers], dim=1)
        return torch.cat([read_tokens(states, token_mask, self.pooling) for states in layers], dim=1)
