"""A CLIP or SigLIP of the transformers library."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from pocketclip.asked.model import LibraryModel, LibraryModelConfig, LibraryTokenizer, Scale
from pocketclip.data.source import safe_key
from pocketclip.embedder import Ids, Mask
from pocketclip.errors import UserError, first_line, require, unknown_choice
from pocketclip.models.running.precision import Precision
from pocketclip.preprocess import PreprocessConfig


class HuggingFaceModelConfig(LibraryModelConfig):
    """A CLIP or SigLIP in a folder, or on the Hugging Face hub by its name."""

    prefix: ClassVar[str] = "hf"
    paths: ClassVar[tuple[str, ...]] = ("name",)

    kind: Literal["huggingface"] = "huggingface"
    name: str
    """Such as `openai/clip-vit-large-patch14`."""
    scale: Scale = "own"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """`OWNER/NAME`, or a folder."""
        return cls(name=text)

    def text(self) -> str:
        return f"{self.prefix}:{self.name}"

    def build(self, device: torch.device, precision: Precision = "auto", *, role: str = "Model") -> LibraryModel:
        transformers = require("transformers", extra="train")
        transformers.utils.logging.disable_progress_bar()  # it would run into ours
        place = f"{role} huggingface {self.name}"
        try:
            config = transformers.AutoConfig.from_pretrained(self.name)
            if config.model_type not in MODELS:
                raise unknown_choice(f"type of {role.lower()}, that of {self.name},", config.model_type, MODELS)
            model = transformers.AutoModel.from_pretrained(self.name, dtype=torch.float32)
            tokenizer = transformers.AutoTokenizer.from_pretrained(self.name)
            processor = transformers.AutoImageProcessor.from_pretrained(self.name)
        except UserError:
            raise
        except Exception as error:  # offline, no such repository, a file missing: a dozen types
            raise UserError(f"{place}: cannot be loaded ({first_line(error)}).") from error
        preprocess = _preprocess(processor.to_dict(), place)
        make, make_tokenizer = MODELS[config.model_type]
        return make(
            self,
            model,
            short_name=safe_key(Path(self.name).name),
            settings=[config.to_dict(), preprocess.model_dump(mode="json")],
            preprocess=preprocess,
            tokenizer=make_tokenizer(tokenizer, config.text_config.max_position_embeddings),
            inverse_temperature=float(model.logit_scale.detach().exp()) if self.scale == "own" else self.scale,
            device=device,
            precision=precision,
        )


class ClipModel(LibraryModel):
    """See `HuggingFaceModelConfig`."""

    image_parts = ("vision_model.", "visual_projection.")
    library = "transformers"

    def forward_images(self, images: Tensor) -> Tensor:
        return _pooled(self.module.get_image_features(pixel_values=self._normalized(images)))  # type: ignore[operator]

    def forward_texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return _pooled(self.module.get_text_features(input_ids=tokens, attention_mask=mask.long()))  # type: ignore[operator]


class SiglipModel(ClipModel):
    """As `ClipModel`, and trained to read its padding."""

    def forward_texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        del mask
        return _pooled(self.module.get_text_features(input_ids=tokens))  # type: ignore[operator]


class ClipTokenizer(LibraryTokenizer):
    """A transformers tokenizer that pads to the longest text."""

    is_whole = False

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Mask]:
        found = self.tokenizer(
            list(texts),
            padding="max_length" if self.is_whole else "longest",
            truncation=True,
            max_length=self.context_length,
            return_tensors="np",
        )
        tokens = np.asarray(found["input_ids"], np.int64)
        if self.is_whole:
            return tokens, np.ones_like(tokens, dtype=np.bool_)
        return tokens, np.asarray(found["attention_mask"]).astype(np.bool_)

    def vocabulary(self) -> dict[str, int]:
        return dict(self.tokenizer.get_vocab())


class SiglipTokenizer(ClipTokenizer):
    """A transformers tokenizer that always pads to the context length."""

    is_whole = True


MODELS: dict[str, tuple[type[ClipModel], type[ClipTokenizer]]] = {
    "clip": (ClipModel, ClipTokenizer),
    "siglip": (SiglipModel, SiglipTokenizer),
}
"""By transformers' `model_type`."""


def _pooled(found: Any) -> Tensor:
    """The embeddings, which transformers 5 returns among other things."""
    pooled: Tensor = getattr(found, "pooler_output", found)
    return pooled


def _preprocess(values: dict[str, Any], place: str) -> PreprocessConfig:
    """The settings of an image processor; SigLIP's resize to the final size and crop nothing."""
    values = dict(values)
    size = {name: side for name, side in dict(values.get("size") or {}).items() if side is not None}
    if "shortest_edge" not in size:
        values["crop_size"] = size
        if size.get("height") != size.get("width"):
            raise UserError(f"{place}: takes pictures of {size}; only squares are made here.")
    return PreprocessConfig.from_hugging_face(
        {**values, "size": size, "resample": int(values["resample"])}, place=place
    )
