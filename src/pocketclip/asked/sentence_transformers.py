"""A model of sentence-transformers: a CLIP or SigLIP, or one that knows texts only."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pocketclip.asked.library import LibraryModelConfig, Scale, loading
from pocketclip.asked.transformers import IS_WHOLE, HuggingFaceTokenizer, own_pixels, read_preprocess
from pocketclip.embedder import Ids, Mask
from pocketclip.errors import UserError, require
from pocketclip.models.running.precision import Precision
from pocketclip.preprocess import PreprocessConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pocketclip.asked.model import LibraryModel, Resize

LONGEST = 512
"""Tokens that are read where neither the model nor its tokenizer has a limit, as of T5."""
NO_LIMIT = 10**6
"""A tokenizer that was given no limit says 10 ** 30."""


class SentenceTransformersModelConfig(LibraryModelConfig):
    """A CLIP, a SigLIP or a model of texts in a folder or on the hub; needs `pip install sentence-transformers`."""

    prefix: ClassVar[str] = "st"
    paths: ClassVar[tuple[str, ...]] = ("name",)
    library: ClassVar[str] = "sentence-transformers"
    image_parts: ClassVar[tuple[str, ...]] = ("0.model.vision_model.", "0.model.visual_projection.")

    kind: Literal["sentence_transformers"] = "sentence_transformers"
    name: str
    """Such as `sentence-transformers/clip-ViT-B-32`."""
    scale: Scale = "own"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """`NAME`, `OWNER/NAME`, or a folder."""
        return cls(name=text)

    def text(self) -> str:
        return f"{self.prefix}:{self.name}"

    def build(self, device: "torch.device", precision: Precision = "auto", *, role: str = "Model") -> "LibraryModel":
        import torch

        from pocketclip.asked.model import LibraryModel, normalized

        library = require("sentence_transformers", package="sentence-transformers")
        require("transformers", extra="train").utils.logging.disable_progress_bar()  # it would run into ours
        place = f"{role} sentence_transformers {self.name}"
        with loading(place):
            model = library.SentenceTransformer(self.name, device="cpu", model_kwargs={"dtype": torch.float32})
        first = _transformer(model, place)
        preprocess, tokenizer = _preprocess(first, place), _tokenizer(model, first)
        # A model may pool without its prompt, and has to be told how long that is
        asked = model.preprocess(["a"], prompt=tokenizer.prompt) if tokenizer and tokenizer.prompt else {}
        prompt = {"prompt_length": asked["prompt_length"]} if "prompt_length" in asked else {}

        def embed(modality: str, **inputs: Any) -> "Tensor":
            vectors: Tensor = model({**inputs, "modality": modality})["sentence_embedding"]
            return vectors[:, : model.truncate_dim]

        def encode_image(images: "Tensor", preprocess: PreprocessConfig) -> "Tensor":
            return embed("image", pixel_values=normalized(images, preprocess))

        def encode_text(tokens: "Tensor", mask: "Tensor") -> "Tensor":
            masked = {} if tokenizer and tokenizer.is_whole else {"attention_mask": mask.long()}
            return embed("text", input_ids=tokens, **masked, **prompt)

        temperature = getattr(first.model, "logit_scale", None)
        own = None if temperature is None else float(temperature.detach().exp())
        return LibraryModel(
            self,
            model,
            None if preprocess is None else partial(encode_image, preprocess=preprocess),
            None if tokenizer is None else encode_text,
            called=(Path(self.name).name,),
            settings=[first.config.to_dict(), _steps(model), prompt, model.truncate_dim],
            preprocess=preprocess,
            resize=None if preprocess is None else _resize(first, preprocess),
            tokenizer=tokenizer,
            scale=own if self.scale == "own" else self.scale,
            device=device,
            precision=precision,
        )


@dataclass(frozen=True)
class PromptedTokenizer(HuggingFaceTokenizer):
    """A transformers tokenizer that puts a model's own prompt, such as `query: `, before each text."""

    prompt: str = ""

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Mask]:
        return super().encode([self.prompt + text for text in texts])


def _transformer(model: Any, place: str) -> Any:
    """The first of a model's modules, which holds the towers."""
    first = model[0]
    modalities = set(getattr(first, "modality_config", {}))
    kind = getattr(getattr(first, "config", None), "model_type", type(first).__name__)
    if not modalities or "message" in modalities or not modalities & {"text", "image"}:
        raise UserError(f"{place}: is a {kind}; taken are CLIP, SigLIP, and transformers that read texts.")
    return first


def _steps(model: Any) -> list[Any]:
    """What a model's modules do, and in which order, as plain values."""
    return [[type(step).__name__, str(step)] for step in model]


def _preprocess(first: Any, place: str) -> PreprocessConfig | None:
    if "image" not in first.modality_config:
        return None
    return read_preprocess({**_image_processor(first).to_dict(), **first.processing_kwargs.get("image", {})}, place)


def _image_processor(first: Any) -> Any:
    return getattr(first.processor, "image_processor", first.processor)


def _resize(first: Any, preprocess: PreprocessConfig) -> "Resize":
    told = first.processing_kwargs.get("image", {})
    return partial(own_pixels, processor=_image_processor(first), preprocess=preprocess, **told)


def _tokenizer(model: Any, first: Any) -> PromptedTokenizer | None:
    """Cut at what the text tower has positions for, where sentence-transformers fails.

    A SigLIP's texts are padded to the context length, as it was trained: sentence-transformers pads them to the longest
    of a batch, so that a text's embedding hangs on its neighbours.
    """
    if "text" not in first.modality_config:
        return None
    config = first.config.get_text_config()
    limits = (first.tokenizer.model_max_length, getattr(config, "max_position_embeddings", None))
    told = first.processing_kwargs.get("text", {})
    length = told.get("max_length") or min((limit for limit in limits if limit and limit < NO_LIMIT), default=LONGEST)
    is_whole = IS_WHOLE.get(first.config.model_type, told.get("padding") == "max_length")
    prompt = model.prompts.get(model.default_prompt_name) or ""
    return PromptedTokenizer(first.tokenizer, length, is_whole, prompt)
