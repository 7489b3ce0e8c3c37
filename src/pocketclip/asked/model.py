"""Models of torch that are asked: embedders whose vectors may also stay on their device, as teachers' do."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from pocketclip.config import Config, digest
from pocketclip.embedder import Embedder, Floats, Ids, Mask, Pixels
from pocketclip.models.running.precision import Precision, autocast, precision_of_scores, resolve_precision
from pocketclip.models.running.runner import cast_weights, module_fingerprint
from pocketclip.preprocess import PreprocessConfig

PACKAGES = ("pocketclip", "torch", "torchvision", "timm", "transformers", "tokenizers", "numpy", "pillow")
"""Whose versions embeddings depend on."""
Scale = Annotated[float, Field(gt=0)] | Literal["own"]
"""Inverse temperature of a model's similarities; `own` is the one it was trained to."""


class AskedModel(Embedder):
    """An embedder with a second face: tensors in and out that stay on its device, without a gradient.

    Both faces may be called from several threads.
    """

    kind: str
    """As in a recipe: `bundle`, `open_clip` ..."""
    short_name: str
    """Safe in file names; unique among the teachers of a run."""
    device: torch.device
    normalize: bool = True
    """Whether `embed_images` brings vectors to length 1; of a model not trained by cosines the length says something
    too, to a student."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with its weights and with the settings that shape its embeddings."""

    @abstractmethod
    def image_vectors(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) bytes on the device to (B, D) of any length and number type."""

    @abstractmethod
    def text_vectors(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(M, L) ids and mask on the device to (M, D) of any length and number type."""

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) bytes to (B, D) float32 on the device, of unit length with `normalize`."""
        vectors = self.image_vectors(images.to(self.device)).float()
        return nn.functional.normalize(vectors, dim=1) if self.normalize else vectors

    @torch.no_grad()
    def embed_tokens(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(M, L) ids and mask to (M, D) float32 of unit length on the device."""
        assert self.tokenizer is not None, "this model knows images only"
        vectors = self.text_vectors(tokens.to(self.device), mask.to(self.device))
        return nn.functional.normalize(vectors.float(), dim=1)

    def encode_images(self, pixels: Pixels) -> Floats:
        vectors = self.embed_images(torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2))
        unit: Floats = (vectors if self.normalize else nn.functional.normalize(vectors, dim=1)).cpu().numpy()
        return unit

    def encode_texts(self, tokens: Ids, mask: Mask) -> Floats:
        unit: Floats = self.embed_tokens(torch.from_numpy(tokens), torch.from_numpy(mask)).cpu().numpy()
        return unit


class LibraryModelConfig(Config):
    """What the models of other libraries have in common as settings; an adapter adds `kind`, a name and weights."""

    prefix: ClassVar[str]
    """What stands before the colon where a user names such a model."""
    paths: ClassVar[tuple[str, ...]]
    """Fields that may hold a path."""

    @property
    def knows(self) -> frozenset[str]:
        """What it can be asked about: images, captions, classes."""
        return frozenset({"images", "captions"})

    @classmethod
    def from_text(cls, text: str) -> Self:
        """From what stands behind the colon."""
        raise NotImplementedError

    def text(self) -> str:
        """What a user writes for it: the prefix, a colon, and what `from_text` takes."""
        raise NotImplementedError

    def lasting_text(self) -> str:
        """`text` as it can be read in any folder: with absolute paths."""
        there = {field: value for field in self.paths if (value := getattr(self, field)) and Path(value).exists()}
        return self.model_copy(update={field: str(Path(value).absolute()) for field, value in there.items()}).text()

    def build(self, device: torch.device, precision: Precision = "auto", *, role: str = "Model") -> "LibraryModel":
        """Load it.

        Args:
            device: where it computes.
            precision: `auto` is bfloat16 where the device multiplies it in hardware.
            role: what errors call it.

        Raises:
            UserError: its library is not installed, there is no such model, or its weights cannot be had.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class LibraryTokenizer(ABC):
    """Another library's tokenizer as a `TextReader`; it can be sent to another process."""

    tokenizer: Any
    context_length: int

    @property
    @abstractmethod
    def is_whole(self) -> bool:
        """Whether texts are always padded to the context length, and the padding is read."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> tuple[Ids, Mask]:
        """See `TextReader`."""

    @abstractmethod
    def vocabulary(self) -> dict[str, int]:
        """Pieces and their ids."""


class LibraryModel(AskedModel):
    """A module of another library; an adapter adds its two forward passes.

    Args:
        config: that it was built from.
        module: in float32, on the device.
        short_name: safe in file names.
        settings: what shapes its embeddings beside the weights.
        preprocess: of its pictures.
        tokenizer: None of a model that knows images only.
        inverse_temperature: None of a model trained without.
        precision: what to compute in; the module's weights are cast.
    """

    image_parts: ClassVar[tuple[str, ...]]
    """What the names of the parameters on the image's way begin with; the others are the text's."""
    library: ClassVar[str]
    """The pip package."""
    tokenizer: LibraryTokenizer | None

    def __init__(
        self,
        config: LibraryModelConfig,
        module: nn.Module,
        *,
        short_name: str,
        settings: Any,
        preprocess: PreprocessConfig,
        tokenizer: LibraryTokenizer | None,
        inverse_temperature: float | None,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.config, self.kind = config, type(config).model_fields["kind"].default
        self.module = module.to(device).eval().requires_grad_(False)
        self.name, self.short_name = config.text(), short_name
        self.preprocess, self.tokenizer, self.inverse_temperature = preprocess, tokenizer, inverse_temperature
        self.device, self.is_on_gpu = device, device.type == "cuda"
        self.num_parameters = sum(parameter.numel() for parameter in module.parameters())
        self._fingerprint = module_fingerprint(module, digest(settings))
        self._asked_precision = precision
        self.precision = resolve_precision(precision, device)
        if self.precision == "bfloat16":
            cast_weights(module)
        self.embed_dim = self._measured_embed_dim()

    @abstractmethod
    def forward_images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) bytes to (B, D)."""

    @abstractmethod
    def forward_texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(M, L) ids and mask to (M, D)."""

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def image_vectors(self, images: Tensor) -> Tensor:
        with autocast(self.precision, self.device):
            return self.forward_images(images)

    def text_vectors(self, tokens: Tensor, mask: Tensor) -> Tensor:
        with autocast(self.precision, self.device):
            return self.forward_texts(tokens, mask)

    def for_scores(self) -> Embedder:
        """Loaded again where its weights were cast."""
        precision = precision_of_scores(self._asked_precision)
        is_exact = resolve_precision(precision, self.device) == self.precision
        return self if is_exact else self.config.build(self.device, precision)

    def made_from(self) -> dict[str, Any]:
        reader = self.tokenizer
        return {
            "model": self.fingerprint,
            "tokenizer": None if reader is None else digest(reader.vocabulary()),
            "context_length": None if reader is None else reader.context_length,
            "preprocess": self.preprocess.model_dump(mode="json"),
            "precision": self.precision,
            "device": self.device.type,
            "versions": {name: version(name) for name in dict.fromkeys((*PACKAGES, self.library))},
        }

    def _normalized(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) bytes to floats with the model's mean and standard deviation."""
        preprocess = self.preprocess
        mean, std = (
            torch.tensor(part, device=images.device).view(3, 1, 1) for part in (preprocess.mean, preprocess.std)
        )
        return (images.float() / 255 - mean) / std

    @torch.no_grad()
    def _measured_embed_dim(self) -> int:
        """D, from the embedding of one grey picture."""
        size = self.preprocess.image_size
        grey = torch.full((1, 3, size, size), 128, dtype=torch.uint8, device=self.device)
        return int(self.image_vectors(grey).shape[1])
