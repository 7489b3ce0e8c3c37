"""The model of every method: two towers, two heads, a temperature."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.profiler import record_function

from pocketclip.config import Config
from pocketclip.errors import UserError
from pocketclip.models.heads import HeadConfig
from pocketclip.models.image import ImageEncoderConfig
from pocketclip.models.sizes import with_size
from pocketclip.models.text import TextEncoderConfig
from pocketclip.types import Features, ImageTextBatch

MAX_LOGIT_SCALE = math.log(100)
PARTS = ("image_encoder", "text_encoder", "heads")
"""Names of the parts that have a learning rate each; the temperature goes with the heads."""


class DualEncoderConfig(Config):
    """The `model` section of a recipe; the name of a size stands for one (see `models/sizes`)."""

    image_encoder: ImageEncoderConfig
    text_encoder: TextEncoderConfig
    image_head: HeadConfig
    text_head: HeadConfig
    embed_dim: PositiveInt = 512
    temperature: PositiveFloat = 0.07
    """Start of the learned temperature; the logits are divided by it."""
    learn_temperature: bool = True
    logit_bias: float | None = Field(default=None)
    """Start of the learned bias of a sigmoid loss, such as -ln(B - 1); None for losses without one."""
    pretrained: str = "none"
    """A file with the weights of a whole published model: towers, heads and temperature (see `models/published.py`)."""

    @model_validator(mode="before")
    @classmethod
    def _write_out_size(cls, values: Any) -> Any:
        try:
            return with_size(values)
        except UserError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _weights_come_from_one_place(self) -> "DualEncoderConfig":
        if self.pretrained == "none":
            return self
        for part in ("image_encoder", "text_encoder"):
            if getattr(self, part).pretrained != "none":
                raise ValueError(f"pretrained fills both towers, so {part}.pretrained should be none")
            if getattr(self, part).inherit is not None:
                raise ValueError(f"pretrained fills both towers, so {part}.inherit should be left out")
        if self.text_encoder.tokenizer == "captions":
            raise ValueError("pretrained word embeddings belong to their own tokenizer, not to tokenizer: captions")
        return self

    def build(
        self, *, load_pretrained: bool = True, vocabulary_size: int | None = None, text_only: bool = False
    ) -> "DualEncoder":
        """Create the model.

        Args:
            load_pretrained: False leaves random towers, for a bundle that brings its own weights.
            vocabulary_size: of a tokenizer learned from captions; None keeps the text tower's own.
            text_only: leave out the image tower and its head, for callers that only encode queries.

        Raises:
            UserError: a tower is unknown or its weights cannot be had.
        """
        text_encoder = self.text_encoder.build(load_pretrained=load_pretrained, vocabulary_size=vocabulary_size)
        image_encoder: nn.Module = CachedTower()
        image_head: nn.Module = nn.Identity()
        if not text_only:
            built = self.image_encoder.build(load_pretrained=load_pretrained)
            image_encoder, image_head = built, self.image_head.build(built.feature_dim, self.embed_dim)
        model = DualEncoder(
            image_encoder,
            text_encoder,
            image_head,
            self.text_head.build(text_encoder.feature_dim, self.embed_dim),
            temperature=self.temperature,
            learn_temperature=self.learn_temperature,
            logit_bias=self.logit_bias,
        )
        if self.pretrained != "none" and load_pretrained and not text_only:
            from pocketclip.models.published import fill_from_published  # which builds whole models too

            expected = f"{self.image_encoder.name} with {self.text_encoder.name}"
            fill_from_published(model, Path(self.pretrained), expected=expected)
        return model


class CachedTower(nn.Module):
    """Stands in for a frozen tower whose features are already computed: passes them through."""

    def forward(self, features: Float[Tensor, "B F"], mask: Bool[Tensor, "B ..."] | None = None) -> Tensor:
        """The features themselves."""
        del mask
        return features


class DualEncoder(nn.Module):
    """Puts images and texts into one space of D dimensions.

    Args:
        image_encoder: images to (B, F).
        text_encoder: tokens and mask to (M, F).
        image_head: (B, F) to (B, D).
        text_head: (M, F) to (M, D).
        temperature: start of the temperature; its inverse's logarithm is the parameter `logit_scale`.
        learn_temperature: False keeps it fixed.
        logit_bias: start of a learned bias; None for none.
    """

    image_encoder: Any  # a module with feature_dim, preprocess and settings: what shapes its output beside weights
    text_encoder: Any  # a module with feature_dim, architecture and settings
    logit_scale: Tensor
    logit_bias: Tensor

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        image_head: nn.Module,
        text_head: nn.Module,
        *,
        temperature: float = 0.07,
        learn_temperature: bool = True,
        logit_bias: float | None = None,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.image_head = image_head
        self.text_head = text_head
        scale = torch.tensor(math.log(1 / temperature))
        bias = torch.tensor(0.0 if logit_bias is None else logit_bias)
        self._add("logit_scale", scale, learned=learn_temperature)
        self._add("logit_bias", bias, learned=logit_bias is not None)

    def _add(self, name: str, value: Tensor, *, learned: bool) -> None:
        if learned:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    def encode_image(self, images: Shaped[Tensor, "B ..."]) -> Float[Tensor, "B D"]:
        """Embeddings of images in float32, not normalised."""
        with record_function("image tower"):
            embedded: Tensor = self.image_head(self.image_encoder(images))
            return embedded.float()

    def encode_text(self, tokens: Shaped[Tensor, "M ..."], token_mask: Bool[Tensor, "M ..."]) -> Float[Tensor, "M D"]:
        """Embeddings of texts in float32, not normalised."""
        with record_function("text tower"):
            embedded: Tensor = self.text_head(self.text_encoder(tokens, token_mask))
            return embedded.float()

    def forward(self, batch: ImageTextBatch) -> Features:
        """Embeddings of a batch with the temperature's exponential and the bias."""
        return Features(
            image=self.encode_image(batch.images),
            text=self.encode_text(batch.tokens, batch.token_mask),
            logit_scale=self.logit_scale.exp(),
            logit_bias=self.logit_bias,
        )

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep a learned exp(logit_scale) between 1 and 100, as CLIP does."""
        if isinstance(self.logit_scale, nn.Parameter):
            self.logit_scale.clamp_(0, MAX_LOGIT_SCALE)

    def checkpoint_activations(self) -> None:
        """Towers compute activations again in the backward pass instead of keeping them: less memory, more time."""
        for encoder in (self.image_encoder, self.text_encoder):
            encoder.checkpoint_activations()

    def compile_for_training(self) -> None:
        """Towers run through torch.compile from the next call on; the weights and their names stay as they are."""
        for encoder in (self.image_encoder, self.text_encoder):
            encoder.compile_for_training()

    def heads_only(self) -> "DualEncoder":
        """A model over cached features that shares this one's heads, temperature and bias."""
        model = DualEncoder(CachedTower(), CachedTower(), self.image_head, self.text_head)
        for name in ("logit_scale", "logit_bias"):
            delattr(model, name)
            value = getattr(self, name)
            if isinstance(value, nn.Parameter):
                model.register_parameter(name, value)
            else:
                model.register_buffer(name, value)
        return model

    def part_parameters(self, part: str) -> Iterator[tuple[str, nn.Parameter]]:
        """Named parameters of one of `PARTS`; together the parts hold every parameter once."""
        for name, parameter in self.named_parameters():
            top = name.partition(".")[0]
            if (top if top in PARTS else "heads") == part:
                yield name, parameter

    def frozen_parameters(self) -> list[nn.Parameter]:
        """Parameters of the towers' frozen layers, which no optimizer may get."""
        encoders = (self.image_encoder, self.text_encoder)
        return [value for encoder in encoders for value in getattr(encoder, "frozen_parameters", [])]

    def architecture(self) -> dict[str, Any]:
        """What a bundle's config needs beyond the recipe to rebuild the towers without a hub."""
        found: dict[str, Any] = getattr(self.text_encoder, "architecture", {})
        return found
