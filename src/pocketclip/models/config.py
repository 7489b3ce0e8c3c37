"""The `model` section of a recipe: what a dual encoder is made of and where its weights come from."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pocketclip.config import Config, kinds_of
from pocketclip.errors import UserError
from pocketclip.models.image.config import ImageEncoderConfig
from pocketclip.models.joints import HeadConfig, PairHeadConfig, SharedEncoderConfig
from pocketclip.models.sizes import with_size
from pocketclip.models.text.config import TextEncoderConfig


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
    """A file with the weights of a whole published model: towers, heads and temperature; `models/origin/published.py`
    says which."""
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
        for part, family in (("image_encoder", ImageEncoderConfig), ("text_encoder", TextEncoderConfig)):
            if not (tower := getattr(self, part)).gives_tokens:
                able = [kind for kind, config in kinds_of(family).items() if config.gives_tokens]
                raise ValueError(
                    f"shared_encoder takes tokens, which {part}.kind {' or '.join(able)} gives (got {tower.kind})"
                )
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
        if image.kind == "timm" and image.second_look is not None:
            raise ValueError("image_encoder.second_look goes with features, not with the tokens of a shared_encoder")
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
