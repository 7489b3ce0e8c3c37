"""A CLIP or SigLIP of the transformers library as a teacher."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pocketclip.config import Config, digest
from pocketclip.data.source import safe_key
from pocketclip.distill.teacher import Scale, Teacher, Tokens, in_precision, measured_width, normalized
from pocketclip.errors import UserError, first_line, require, unknown_choice
from pocketclip.models.inference import cast_weights, module_fingerprint
from pocketclip.models.precision import Precision, resolve_precision
from pocketclip.preprocess import PreprocessConfig

MODEL_TYPES = ("clip", "siglip")


class HuggingFaceTeacherConfig(Config):
    """A CLIP or SigLIP in a folder, or on the Hugging Face hub by its name."""

    kind: Literal["huggingface"] = "huggingface"
    name: str
    """Such as `openai/clip-vit-large-patch14`."""
    scale: Scale = "own"

    def build(self, device: torch.device, precision: Precision = "auto") -> Teacher:
        """Load it.

        Raises:
            UserError: it cannot be had, or is another kind of model.
        """
        transformers = require("transformers", extra="train")
        transformers.utils.logging.disable_progress_bar()  # it would run into ours
        try:
            config = transformers.AutoConfig.from_pretrained(self.name)
            if config.model_type not in MODEL_TYPES:
                raise unknown_choice(f"type of teacher, that of {self.name},", config.model_type, MODEL_TYPES)
            model = transformers.AutoModel.from_pretrained(self.name, dtype=torch.float32)
            tokenizer = transformers.AutoTokenizer.from_pretrained(self.name)
            processor = transformers.AutoImageProcessor.from_pretrained(self.name)
        except UserError:
            raise
        except Exception as error:  # offline, no such repository, a file missing: a dozen types
            raise UserError(f"Teacher huggingface {self.name}: cannot be loaded ({first_line(error)}).") from error
        model = model.to(device).eval()
        preprocess = _preprocess(processor.to_dict(), f"Teacher huggingface {self.name}")
        masked = config.model_type == "clip"  # SigLIP was trained to read its padding

        def images(pixels: Tensor) -> Tensor:
            return _pooled(model.get_image_features(pixel_values=normalized(pixels, preprocess)))

        def texts(tokens: Tensor, mask: Tensor) -> Tensor:
            return _pooled(model.get_text_features(input_ids=tokens, attention_mask=mask.long() if masked else None))

        fingerprint = module_fingerprint(model, digest([config.to_dict(), preprocess.model_dump(mode="json")]))
        if resolve_precision(precision, device) == "bfloat16":
            cast_weights(model)
        embed_images = in_precision(images, precision, device)
        return Teacher(
            name=safe_key(Path(self.name).name),
            kind=self.kind,
            width=measured_width(embed_images, preprocess, device),
            scale=float(model.logit_scale.detach().exp()) if self.scale == "own" else self.scale,
            preprocess=preprocess,
            fingerprint=fingerprint,
            device=device,
            tokenize=_Tokenize(tokenizer, config.text_config.max_position_embeddings, whole=not masked),
            embed_images=embed_images,
            embed_tokens=in_precision(texts, precision, device),
        )


@dataclass(frozen=True)
class _Tokenize:
    """A transformers tokenizer in the form of ours; it can be sent to another process."""

    tokenizer: Any
    context_length: int
    whole: bool
    """Always pad to the context length."""

    def __call__(self, texts: Sequence[str]) -> Tokens:
        found = self.tokenizer(
            list(texts),
            padding="max_length" if self.whole else "longest",
            truncation=True,
            max_length=self.context_length,
            return_tensors="np",
        )
        tokens = np.asarray(found["input_ids"], np.int64)
        if self.whole:
            return tokens, np.ones_like(tokens, dtype=np.bool_)
        return tokens, np.asarray(found["attention_mask"]).astype(np.bool_)


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
