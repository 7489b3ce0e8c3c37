"""A CLIP or SigLIP of the transformers library."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from PIL import Image

from pocketclip.asked.library import LibraryModelConfig, LibraryTokenizer, Scale, loading
from pocketclip.embedder import Ids, Mask, Pixels
from pocketclip.errors import UserError, require, unknown_choice
from pocketclip.models.running.precision import Precision
from pocketclip.preprocess import PreprocessConfig, is_panorama, resize_image, scaled_size

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pocketclip.asked.model import LibraryModel

IS_WHOLE = {"clip": False, "siglip": True}
"""By transformers' `model_type`, whether a model was trained to read the padding of its texts."""


class HuggingFaceModelConfig(LibraryModelConfig):
    """A CLIP or SigLIP in a folder, or on the Hugging Face hub by its name."""

    prefix: ClassVar[str] = "hf"
    paths: ClassVar[tuple[str, ...]] = ("name",)
    library: ClassVar[str] = "transformers"
    image_parts: ClassVar[tuple[str, ...]] = ("vision_model.", "visual_projection.")

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

    def build(self, device: "torch.device", precision: Precision = "auto", *, role: str = "Model") -> "LibraryModel":
        import torch

        from pocketclip.asked.model import LibraryModel, normalized

        transformers = require("transformers", extra="train")
        transformers.utils.logging.disable_progress_bar()  # it would run into ours
        place = f"{role} huggingface {self.name}"
        with loading(place):
            config = transformers.AutoConfig.from_pretrained(self.name)
            if config.model_type not in IS_WHOLE:
                raise unknown_choice(f"type of {role.lower()}, that of {self.name},", config.model_type, IS_WHOLE)
            model = transformers.AutoModel.from_pretrained(self.name, dtype=torch.float32)
            tokenizer = transformers.AutoTokenizer.from_pretrained(self.name)
            processor = transformers.AutoImageProcessor.from_pretrained(self.name)
        preprocess, is_whole = read_preprocess(processor.to_dict(), place), IS_WHOLE[config.model_type]

        def encode_text(tokens: "Tensor", mask: "Tensor") -> "Tensor":
            masked = {} if is_whole else {"attention_mask": mask.long()}
            return _pooled(model.get_text_features(input_ids=tokens, **masked))

        return LibraryModel(
            self,
            model,
            lambda images: _pooled(model.get_image_features(pixel_values=normalized(images, preprocess))),
            encode_text,
            called=(Path(self.name).name,),
            settings=[config.to_dict()],
            preprocess=preprocess,
            resize=partial(own_pixels, processor=processor, preprocess=preprocess),
            tokenizer=HuggingFaceTokenizer(tokenizer, config.text_config.max_position_embeddings, is_whole),
            scale=self.scale,
            device=device,
            precision=precision,
        )


class HuggingFaceTokenizer(LibraryTokenizer):
    """A transformers tokenizer that pads to the longest text, or to the context length."""

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Mask]:
        encoded = self.tokenizer(
            list(texts),
            padding="max_length" if self.is_whole else "longest",
            truncation=True,
            max_length=self.context_length,
            return_tensors="np",
        )
        tokens = np.asarray(encoded["input_ids"], np.int64)
        if self.is_whole:
            return tokens, np.ones_like(tokens, dtype=np.bool_)
        return tokens, np.asarray(encoded["attention_mask"]).astype(np.bool_)

    def vocabulary(self) -> dict[str, int]:
        return dict(self.tokenizer.get_vocab())


def _pooled(output: Any) -> "Tensor":
    """The embeddings, which transformers 5 returns among other things."""
    pooled: Tensor = getattr(output, "pooler_output", output)
    return pooled


def read_preprocess(values: dict[str, Any], place: str) -> PreprocessConfig:
    """The settings of an image processor; SigLIP's resize to the final size and crop nothing."""
    values = dict(values)
    size = {name: side for name, side in dict(values.get("size") or {}).items() if side is not None}
    if "shortest_edge" not in size:
        values["crop_size"] = size
        if size.get("height") != size.get("width") and values.get("do_center_crop"):
            raise UserError(f"{place}: takes pictures of {size}, cut after a squash; only whole ones are made here.")
    return PreprocessConfig.from_hugging_face(
        {**values, "size": size, "resample": int(values["resample"])}, place=place
    )


def own_pixels(image: Image.Image, processor: Any, preprocess: PreprocessConfig, **settings: Any) -> Pixels:
    """(H, W, 3) bytes of an RGB picture as the library's processor makes them.

    It resizes with torch, whose rounding moves bytes by one from Pillow's. Of a panorama it would resize all to keep
    a small part; there we resize that part alone.
    """
    if preprocess.resize == "crop" and is_panorama(scaled_size(image.size, preprocess), preprocess):
        return resize_image(image, preprocess)
    plain = {**settings, "do_rescale": False, "do_normalize": False}
    (pixels,) = processor(images=[image], return_tensors="np", **plain)["pixel_values"]
    return np.ascontiguousarray(np.moveaxis(np.asarray(pixels, np.uint8), 0, -1))
