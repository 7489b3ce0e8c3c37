"""The model of every method: two towers, two heads, a temperature, and sometimes an encoder that both towers share."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.profiler import record_function

from pocketclip.config import Config
from pocketclip.errors import UserError
from pocketclip.models.heads import HeadConfig, IdentityHeadConfig
from pocketclip.models.image import ImageEncoderConfig
from pocketclip.models.pair_head import PairHeadConfig
from pocketclip.models.shared_encoder import Modality, SharedEncoderConfig, SharedTower
from pocketclip.models.sizes import with_size
from pocketclip.models.text import TextEncoderConfig
from pocketclip.types import Features, ImageTextBatch, LayerFeatures

MAX_LOGIT_SCALE = math.log(100)
PARTS = ("image_encoder", "text_encoder", "heads")
"""Names of the parts that have a learning rate each; the temperature goes with the heads."""


class DualEncoderConfig(Config):
    """The `model` section of a recipe; the name of a size stands for one (see `models/sizes`)."""

    image_encoder: ImageEncoderConfig
    text_encoder: TextEncoderConfig
    image_head: HeadConfig
    text_head: HeadConfig
    shared_encoder: SharedEncoderConfig | None = None
    """What the tokens of both towers pass through, apart; the heads are then adapters of every token, `identity`
    where they are left out. None for two plain towers."""
    pair_head: PairHeadConfig | None = None
    """Judges whether a sentence is true of two images, for the objective `pairs`; None where nothing is judged."""
    embed_dim: PositiveInt = 512
    """Width of an embedding, and of a shared encoder's tokens."""
    temperature: PositiveFloat = 0.07
    """Start of the learned temperature; the logits are divided by it."""
    learn_temperature: bool = True
    logit_bias: float | None = Field(default=None)
    """Start of the learned bias of a sigmoid loss, such as -ln(B - 1); None for losses without one."""
    pretrained: str = "none"
    """A file with the weights of a whole published model: towers, heads and temperature (see `models/published.py`)."""
    bundle: str | None = None
    """A bundle, a run folder or a hub name to start from: all of its weights, and its tokenizer. A pair head that it
    has not starts at random."""

    @model_validator(mode="before")
    @classmethod
    def _write_out_size(cls, values: Any) -> Any:
        try:
            values = with_size(values)
        except UserError as error:
            raise ValueError(str(error)) from error
        if isinstance(values, Mapping) and values.get("shared_encoder") is not None:
            values = {"image_head": {"kind": "identity"}, "text_head": {"kind": "identity"}, **values}
        return values

    @model_validator(mode="after")
    def _parts_fit_a_shared_encoder(self) -> "DualEncoderConfig":
        if self.shared_encoder is None:
            return self
        for part, kind in (("image_encoder", "timm"), ("text_encoder", "huggingface")):
            if (given := getattr(self, part).kind) != kind:
                raise ValueError(f"shared_encoder takes tokens, which {part}.kind {kind} gives (got {given})")
        for part in ("image_head", "text_head"):
            if (given := getattr(self, part).kind) not in ("identity", "linear"):
                raise ValueError(
                    f"shared_encoder makes {part} an adapter of every token: choose identity or linear (got {given})"
                )
        image, text = self.image_encoder, self.text_encoder
        if image.kind == "timm" and (image.joined_stages or image.pooling != "native"):
            raise ValueError(
                "image_encoder.pooling and joined_stages have no effect with shared_encoder; leave them out"
            )
        if text.kind == "huggingface" and text.joined_layers:
            raise ValueError("text_encoder.joined_layers has no effect with shared_encoder; leave it out")
        if self.pretrained != "none":
            raise ValueError("pretrained names a whole published model, and none of those has a shared_encoder")
        return self

    @model_validator(mode="after")
    def _weights_come_from_one_place(self) -> "DualEncoderConfig":
        if self.pretrained == "none" and self.bundle is None:
            return self
        origin = "pretrained" if self.bundle is None else "bundle"
        for part in ("image_encoder", "text_encoder"):
            if getattr(self, part).pretrained != "none":
                raise ValueError(f"{origin} fills both towers, so {part}.pretrained should be none")
            if getattr(self, part).inherit is not None:
                raise ValueError(f"{origin} fills both towers, so {part}.inherit should be left out")
        if self.bundle is not None and self.pretrained != "none":
            raise ValueError("pretrained and bundle both fill the whole model; leave one out")
        if self.bundle is None and self.text_encoder.tokenizer == "captions":
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
        text_encoder: Any = self.text_encoder.build(load_pretrained=load_pretrained, vocabulary_size=vocabulary_size)
        image_encoder: Any = CachedTower()
        if not text_only:
            image_encoder = self.image_encoder.build(load_pretrained=load_pretrained)
        settings: dict[str, Any] = {
            "temperature": self.temperature,
            "learn_temperature": self.learn_temperature,
            "logit_bias": self.logit_bias,
            "pair_head": None if self.pair_head is None else self.pair_head.build(self.embed_dim),
        }
        if self.shared_encoder is not None:
            return self._build_shared(image_encoder, text_encoder, settings)
        image_head = nn.Identity() if text_only else self.image_head.build(image_encoder.feature_dim, self.embed_dim)
        text_head = self.text_head.build(text_encoder.feature_dim, self.embed_dim)
        model = DualEncoder(image_encoder, text_encoder, image_head, text_head, **settings)
        if self.pretrained != "none" and load_pretrained and not text_only:
            from pocketclip.models.published import fill_from_published  # which builds whole models too

            expected = f"{self.image_encoder.name} with {self.text_encoder.name}"
            fill_from_published(model, Path(self.pretrained), expected=expected)
        return model

    def _build_shared(self, image_encoder: Any, text_encoder: Any, settings: dict[str, Any]) -> "DualEncoder":
        """The towers' tokens through one encoder."""
        assert self.shared_encoder is not None
        heads: dict[str, nn.Module] = {"image": nn.Identity(), "text": nn.Identity()}
        for part, encoder, head in (
            ("image", image_encoder, self.image_head),
            ("text", text_encoder, self.text_head),
        ):
            if isinstance(encoder, CachedTower):  # of a model that only encodes queries
                continue
            encoder.give_tokens()
            if isinstance(head, IdentityHeadConfig) and encoder.feature_dim != self.embed_dim:
                raise UserError(
                    f"model.{part}_head: the {part} tower's tokens are {encoder.feature_dim} wide and the shared "
                    f"encoder's embed_dim {self.embed_dim}; adapt them with {part}_head: {{kind: linear}}."
                )
            heads[part] = head.build(encoder.feature_dim, self.embed_dim)
        has_class_token = getattr(image_encoder, "has_class_token", True)
        shared = self.shared_encoder.build(self.embed_dim, has_class_token=has_class_token)
        return SharedDualEncoder(image_encoder, text_encoder, heads["image"], heads["text"], shared, **settings)


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
        pair_head: embeddings of pairs of images and their sentences to (P,) logits; None where nothing is judged.
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
        pair_head: nn.Module | None = None,
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
        self.pair_head = pair_head

    def _add(self, name: str, value: Tensor, *, learned: bool) -> None:
        if learned:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    def image_stages(self) -> tuple[nn.Module, nn.Module]:
        """What gives an image's feature, and what makes an embedding of it: what can be computed once, and the rest."""
        return self.image_encoder, self.image_head

    def text_stages(self) -> tuple[nn.Module, nn.Module]:
        """The twin of `image_stages`."""
        return self.text_encoder, self.text_head

    def encode_image(self, images: Shaped[Tensor, "B ..."]) -> Float[Tensor, "B D"]:
        """Embeddings of images in float32, not normalised."""
        with record_function("image tower"):
            tower, head = self.image_stages()
            embedded: Tensor = head(tower(images))
            return embedded.float()

    def encode_text(self, tokens: Shaped[Tensor, "M ..."], token_mask: Bool[Tensor, "M ..."]) -> Float[Tensor, "M D"]:
        """Embeddings of texts in float32, not normalised."""
        with record_function("text tower"):
            tower, head = self.text_stages()
            embedded: Tensor = head(tower(tokens, token_mask))
            return embedded.float()

    def encode(self, batch: ImageTextBatch) -> tuple[Tensor, Tensor, tuple[LayerFeatures, ...]]:
        """Embeddings of a batch's images and texts, and what inner layers of a shared encoder make of them."""
        return self.encode_image(batch.images), self.encode_text(batch.tokens, batch.token_mask), ()

    def forward(self, batch: ImageTextBatch) -> Features:
        """Embeddings of a batch with the temperature's exponential and the bias."""
        image, text, layers = self.encode(batch)
        return self.judged(Features(image, text, self.logit_scale.exp(), self.logit_bias, layers), batch)

    def judged(self, features: Features, batch: ImageTextBatch) -> Features:
        """The features of a batch of labelled pairs with the pair head's logits; others as they are."""
        if self.pair_head is None or batch.labels is None:
            return features
        with torch.autocast(features.image.device.type, enabled=False):
            return replace(features, pair_logits=self.pair_head(features.image, features.text))

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep a learned exp(logit_scale) between 1 and 100, as CLIP does."""
        if isinstance(self.logit_scale, nn.Parameter):
            self.logit_scale.clamp_(0, MAX_LOGIT_SCALE)

    def checkpoint_activations(self) -> None:
        """Towers compute activations again in the backward pass instead of keeping them: less memory, more time."""
        for encoder in self._encoders():
            encoder.checkpoint_activations()

    def compile_for_training(self) -> None:
        """Towers run through torch.compile from the next call on; the weights and their names stay as they are."""
        for encoder in self._encoders():
            encoder.compile_for_training()

    def _encoders(self) -> list[Any]:
        return [self.image_encoder, self.text_encoder]

    def heads_only(self) -> "DualEncoder":
        """A model over cached features that shares this one's heads, temperature and bias."""
        return self._over_features(CachedTower())

    def without_image_tower(self) -> "DualEncoder":
        """A model over cached features of images that shares all else with this one."""
        return self._over_features(self.text_encoder)

    def _over_features(self, text_encoder: nn.Module) -> "DualEncoder":
        heads = self.image_stages()[1], self.text_stages()[1]
        model = DualEncoder(CachedTower(), text_encoder, *heads, pair_head=self.pair_head)
        for name in ("logit_scale", "logit_bias"):
            delattr(model, name)
            value = getattr(self, name)
            if isinstance(value, nn.Parameter):
                model.register_parameter(name, value)
            else:
                model.register_buffer(name, value)
        return model

    def encoding_parts(self) -> list[nn.Module]:
        """The modules that images and texts pass through one by one: all but the pair head."""
        return [module for name, module in self.named_children() if name != "pair_head"]

    def head_modules(self) -> list[nn.Module]:
        """The modules of the part `heads`."""
        return [module for name, module in self.named_children() if name not in PARTS]

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


class SharedDualEncoder(DualEncoder):
    """Two towers of tokens, and one encoder that both modalities pass through, apart.

    The embedding is what the shared encoder gives; its inner layers are in the features. What can be computed once is
    the whole way, so the heads of `heads_only` do nothing.

    Args:
        image_encoder: images to (B, L, F).
        text_encoder: tokens and mask to (M, L, F).
        image_head: (B, L, F) to (B, L, D).
        text_head: (M, L, F) to (M, L, D).
        shared_encoder: tokens, mask and modality to (B, D) and inner layers.
        settings: see `DualEncoder`.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        image_head: nn.Module,
        text_head: nn.Module,
        shared_encoder: nn.Module,
        **settings: Any,
    ) -> None:
        super().__init__(image_encoder, text_encoder, image_head, text_head, **settings)
        self.shared_encoder: Any = shared_encoder

    def _tower(self, modality: Modality) -> SharedTower:
        """Made anew each time, since its parts are the model's own and may be replaced."""
        encoder, head = getattr(self, f"{modality}_encoder"), getattr(self, f"{modality}_head")
        return SharedTower(encoder, head, self.shared_encoder, modality)

    def image_stages(self) -> tuple[nn.Module, nn.Module]:
        """The whole way, and nothing."""
        return self._tower("image"), nn.Identity()

    def text_stages(self) -> tuple[nn.Module, nn.Module]:
        """The whole way, and nothing."""
        return self._tower("text"), nn.Identity()

    def encode(self, batch: ImageTextBatch) -> tuple[Tensor, Tensor, tuple[LayerFeatures, ...]]:
        """Embeddings and inner layers in float32."""
        with record_function("image tower"):
            image, image_layers = self._tower("image").with_layers(batch.images)
        with record_function("text tower"):
            text, text_layers = self._tower("text").with_layers(batch.tokens, batch.token_mask)
        pairs = zip(image_layers, text_layers, strict=True)
        return image.float(), text.float(), tuple(LayerFeatures(one.float(), other.float()) for one, other in pairs)

    def _encoders(self) -> list[Any]:
        return [*super()._encoders(), self.shared_encoder]
