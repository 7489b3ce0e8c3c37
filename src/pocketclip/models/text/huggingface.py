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
from pocketclip.models.origin.weights import TEXT_PACKAGES, load_weights, packaged
from pocketclip.models.text.huggingface_folder import (
    find_architecture,
    hub_folder,
    matching,
    read_pretrained,
    tower_folder,
)
from pocketclip.models.text.lengths import TEXTS_A_PASS, pass_by_length
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
        """Create the tower.

        Args:
            load_pretrained: False leaves random weights, for a bundle that brings its own.
            vocabulary_size: replaces the architecture's own, for a tokenizer learned from captions.

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
            self._keep_layers(config)
            tower = _without_pooler(transformers.AutoModel.from_config(config))
        except UserError:
            raise
        except Exception as error:  # every architecture checks its settings in its own way
            raise UserError(
                f"{self.name}: not an architecture that transformers can build ({first_line(error)})."
            ) from error
        if getattr(config, "is_encoder_decoder", False):
            raise UserError(f"{self.name}: {config.model_type} has a decoder too; choose a tower that only encodes.")
        if self.context_length > (limit := _longest_text(tower) or self.context_length):
            raise UserError(f"context_length: {self.name} takes at most {limit} tokens (got {self.context_length}).")
        if origin != "none":
            place, weights = read_pretrained(self.name, origin)
            load_weights(tower, matching(weights, tower), place=place)
        encoder = HuggingFaceTextEncoder(tower, self)
        if self.inherit is not None and load_pretrained:
            self.inherit.fill(encoder, HuggingFaceTextEncoderConfig, "text_encoder")
        return encoder

    def _keep_layers(self, config: Any) -> None:
        """Make the architecture shallower."""
        if self.num_layers is not None:
            if self.num_layers > config.num_hidden_layers:
                raise UserError(
                    f"num_layers: {self.name} has {config.num_hidden_layers} layers (got {self.num_layers})."
                )
            config.num_hidden_layers = self.num_layers

    def build_tokenizer(self) -> Tokenizer:
        """The tokenizer that `tokenizer` names; `captions` is not built here but with the data at hand.

        Raises:
            UserError: it cannot be had.
        """
        if self.tokenizer == "bert":
            folder = packaged("text tower", BERT_VOCABULARY, TEXT_PACKAGES).path().parent
        elif self.tokenizer == "model":
            if self.pretrained == "none" and self.name not in TEXT_PACKAGES:
                folder = hub_folder(self.name, ["tokenizer.json"])
            else:
                folder = tower_folder(self.name, "package" if self.pretrained == "none" else self.pretrained)
        else:
            return Tokenizer.from_file(Path(self.tokenizer), self.context_length)
        return Tokenizer.from_file(folder / "tokenizer.json", self.context_length)

    def as_built(self, architecture: Mapping[str, Any]) -> "HuggingFaceTextEncoderConfig":
        """The config that builds the tower again whose `architecture` this is, without a hub."""
        return self.model_copy(update={"architecture": dict(architecture)})


def _without_pooler(tower: Any) -> Any:
    """BERT's pooler is trained for next-sentence prediction and unused here; its parameters must not be counted."""
    if getattr(tower, "pooler", None) is not None:
        tower.pooler = None
    return tower


def _leading_layers(tower: Any, count: int) -> list[nn.Module]:
    """The word embeddings and the first `count - 1` layers."""
    if count == 0:
        return []
    layers = max((module for module in tower.modules() if isinstance(module, nn.ModuleList)), key=len)
    if count > len(layers):
        raise UserError(f"frozen_layers: this tower has embeddings and {len(layers)} layers (got {count}).")
    return [getattr(tower, "embeddings", None) or tower.get_input_embeddings(), *layers[: count - 1]]


def _longest_text(tower: Any) -> int | None:
    """Tokens that the position embeddings reach to; None where there is no such limit."""
    limit: int | None = getattr(tower.config, "max_position_embeddings", None)
    padding = _position_padding(tower)
    return limit if limit is None or padding is None else limit - padding - 1


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
        self.pooling = config.pooling
        self.gives_tokens = False
        self.joined_layers = config.joined_layers
        settings = tower.config
        num_layers, width = int(settings.num_hidden_layers), int(settings.hidden_size)
        if any(not 0 <= layer < num_layers for layer in self.joined_layers):
            raise UserError(f"joined_layers: this tower has layers 0 to {num_layers - 1} (got {self.joined_layers}).")
        self.feature_dim = width * (1 + len(self.joined_layers))
        self.frozen_modules = _leading_layers(tower, config.frozen_layers)
        self._describe()

    def _describe(self) -> None:
        settings = self.tower.config
        self.architecture = {"model_type": settings.model_type, **settings.to_diff_dict()}
        self.settings = {"pooling": self.pooling, "joined_layers": self.joined_layers, **self.architecture}
        if self.gives_tokens:
            self.settings["gives_tokens"] = True

    def needed_tokens(self) -> set[int]:
        """Ids that the architecture names, and those that its positions are counted from."""
        settings = self.tower.config
        named = {number for name in NAMED_TOKENS if isinstance(number := getattr(settings, name, None), int)}
        padding = _position_padding(self.tower)
        return named if padding is None else named | set(range(padding + 1))  # positions are counted from its number

    def keep_tokens(self, kept: Sequence[int]) -> None:
        """See `TextTower.keep_tokens`."""
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
        """Compute activations again in the backward pass instead of keeping them."""
        self.tower.config.use_cache = False  # or every step says that it goes without
        # The second name is that of transformers before 5.20
        enable = (
            getattr(self.tower, "activation_checkpointing_enable", None) or self.tower.gradient_checkpointing_enable
        )
        enable({"use_reentrant": False})

    def compile_for_training(self) -> None:
        """Let torch.compile fuse the tower's operations from the next call on, for any length of text."""
        self.tower.compile(dynamic=True)

    def give_tokens(self) -> None:
        """From now on give the last layer's states of all tokens, padding too."""
        self.gives_tokens = True
        self._describe()

    def forward(self, tokens: Int[Tensor, "M L"], token_mask: Bool[Tensor, "M L"]) -> Float[Tensor, "M ... F"]:
        """One feature a text, or its tokens.

        Args:
            tokens: (M, L) ids.
            token_mask: (M, L), True where a token stands; padding does not change the result.

        Returns:
            (M, F), or (M, L, F) after `give_tokens`, not normalised.
        """
        if self.gives_tokens:
            states: Tensor = self.tower(input_ids=tokens, attention_mask=token_mask.long()).last_hidden_state
            return states
        if tokens.device.type == "cpu" and len(tokens) > TEXTS_A_PASS:
            return pass_by_length(self._pass, tokens, token_mask, texts_a_pass=TEXTS_A_PASS)
        return self._pass(tokens, token_mask)

    def _pass(self, tokens: Int[Tensor, "M L"], token_mask: Bool[Tensor, "M L"]) -> Float[Tensor, "M F"]:
        output = self.tower(
            input_ids=tokens,
            attention_mask=token_mask.long(),
            output_hidden_states=bool(self.joined_layers),
        )
        layers = [output.hidden_states[layer] for layer in self.joined_layers]
        return torch.cat([self._pool(states, token_mask) for states in [*layers, output.last_hidden_state]], dim=1)

    def _pool(self, states: Float[Tensor, "M L W"], token_mask: Bool[Tensor, "M L"]) -> Float[Tensor, "M W"]:
        if self.pooling == "cls":
            return states[:, 0]
        if self.pooling == "eot":
            last = token_mask.sum(1) - 1
            return states[torch.arange(len(states), device=states.device), last]
        weights = token_mask.unsqueeze(2).to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1)
