"""The towers a model started from, built again from the weights that its config names."""

from typing import TypeVar

import torch
from torch import nn

from pocketclip.models.build import build_model
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.tower import ImageTower, TextTower, Tower
from pocketclip.tokenizer import Tokenizer

AnyTower = TypeVar("AnyTower", bound=Tower)


def starting_image_encoder(config: DualEncoderConfig) -> ImageTower | None:
    """The image tower before training; None where it started from random weights, and so without any skill.

    Raises:
        UserError: its weights cannot be had here.
    """
    if config.pretrained != "none":
        return build_model(config).image_encoder
    tower = config.image_encoder
    return None if tower.pretrained == "none" and tower.inherit is None else _ready(tower.build(), config)


def starting_text_encoder(config: DualEncoderConfig, tokenizer: Tokenizer) -> tuple[TextTower, Tokenizer] | None:
    """The text tower before training and its own tokenizer; None where it started from random weights.

    Where training began by dropping words that do not occur, this is the tower with all of them; else the tokenizer of
    the trained model is its own.

    Raises:
        UserError: its weights or its tokenizer cannot be had here.
    """
    if config.pretrained != "none":
        return build_model(config).text_encoder, tokenizer
    tower = config.text_encoder
    if tower.pretrained == "none" and tower.inherit is None:
        return None
    if tower.vocabulary == "occurring":
        # As it was before word embeddings were dropped, which gave tokens new numbers
        architecture = (getattr(tower, "architecture", None) or {}).items()
        kept = {key: value for key, value in architecture if key != "vocab_size" and not key.endswith("_token_id")}
        whole = tower.model_copy(update={"architecture": kept or None})
        return _ready(whole.build(), config), tower.build_tokenizer()
    return _ready(tower.build(), config), tokenizer


def _ready(encoder: AnyTower, config: DualEncoderConfig) -> AnyTower:
    """The encoder as the model used it: a shared encoder takes tokens."""
    if config.shared_encoder is not None:
        encoder.give_tokens()
    return encoder


@torch.no_grad()
def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules hold the same numbers under the same names: a tower that was frozen, and its start."""
    first, second = one.state_dict(), other.state_dict()
    same = (torch.equal(value.cpu(), second[name].cpu()) for name, value in first.items())
    return first.keys() == second.keys() and all(same)
