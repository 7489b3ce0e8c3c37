"""Models of torch that are asked: embedders whose vectors may also stay on their device, as teachers' do."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip.asked.library import PACKAGES, LibraryModelConfig, LibraryTokenizer, Scale
from pocketclip.config import digest
from pocketclip.data.keys import safe_key
from pocketclip.embedder import Embedder, Floats, Ids, Mask, Pixels
from pocketclip.errors import UserError
from pocketclip.models.running.precision import Precision, autocast, precision_of_scores, resolve_precision
from pocketclip.models.running.runner import cast_weights, module_fingerprint
from pocketclip.preprocess import PreprocessConfig

Resize = Callable[[Image.Image], Pixels]


class AskedModel(Embedder):
    """An embedder with a second face: tensors in and out that stay on its device, without a gradient.

    Both faces may be called from several threads.
    """

    kind: str
    """As in a recipe: `bundle`, `open_clip` ..."""
    short_name: str
    """Safe in file names; unique among the teachers of a run."""
    device: torch.device

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with its weights and with the settings that shape its embeddings."""

    @abstractmethod
    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) bytes to (B, D) float32 on the device, of unit length.

        Of a timm model they are as it gives them: to a student the length says something too.
        """

    @abstractmethod
    def embed_tokens(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(M, L) ids and mask to (M, D) float32 of unit length on the device."""


class LibraryModel(AskedModel):
    """A module of another library.

    Args:
        config: that it was built from.
        module: in float32; its weights are cast to `precision`.
        encode_image: (B, 3, H, W) bytes to (B, D), by the module; None of a model that knows texts only.
        encode_text: (M, L) ids and mask to (M, D), likewise; None of a model that knows images only.
        called: name and weights; the short name is made of what is not empty.
        settings: what shapes its embeddings beside weights and `preprocess`.
        preprocess, tokenizer, scale: None of a model that has none.
        resize: a picture's pixels as the library makes them, where `preprocess` does so but for rounding.

    Raises:
        UserError: its towers give vectors of different widths.
    """

    tokenizer: LibraryTokenizer | None

    def __init__(
        self,
        config: LibraryModelConfig,
        module: nn.Module,
        encode_image: Callable[[Tensor], Tensor] | None,
        encode_text: Callable[[Tensor, Tensor], Tensor] | None = None,
        *,
        called: Sequence[str],
        settings: Sequence[Any],
        preprocess: PreprocessConfig | None,
        resize: Resize | None = None,
        tokenizer: LibraryTokenizer | None = None,
        scale: Scale | None = None,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.config, self.kind, self.image_parts = config, type(config).model_fields["kind"].default, config.image_parts
        own: Any = getattr(module, "logit_scale", None)
        self.inverse_temperature = float(own.detach().exp()) if scale == "own" else scale
        self.module = module.to(device).eval().requires_grad_(False)
        self._encode_image, self._encode_text = encode_image, encode_text
        self.name, self.short_name = config.text(), safe_key("-".join(filter(None, called)))
        self._preprocess, self.tokenizer, self._resize = preprocess, tokenizer, resize
        self.knows_images = preprocess is not None
        self.device, self.is_on_gpu = device, device.type == "cuda"
        self.num_parameters = sum(parameter.numel() for parameter in module.parameters())
        self._fingerprint = module_fingerprint(module, digest([*settings, self._sizing()]))
        self._asked_precision = precision
        self.precision = resolve_precision(precision, device)
        if self.precision == "bfloat16":
            cast_weights(module)
        self.embed_dim = self._width()

    def _sizing(self) -> dict[str, Any] | None:
        return None if self._preprocess is None else self._preprocess.model_dump(mode="json")

    def _width(self) -> int:
        """D, the same of a picture and of a sentence."""
        widths = []
        if self._preprocess is not None:
            grey = torch.full((1, 3, *self._preprocess.shape), 128, dtype=torch.uint8)
            widths.append(self.embed_images(grey).shape[1])
        if self.tokenizer is not None:
            widths.append(self.encode_texts(*self.tokenizer.encode(["a"])).shape[1])
        if len(set(widths)) > 1:
            raise UserError(
                f"{self.name}: an image becomes {widths[0]} numbers and a text {widths[1]}, so that they cannot be "
                "compared; choose a model whose two towers share a space."
            )
        return widths[0]

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        assert self._encode_image is not None, "this model knows texts only"
        with autocast(self.precision, self.device):
            vectors = self._encode_image(images.to(self.device)).float()
        return F.normalize(vectors, dim=1) if self.config.normalize else vectors

    @torch.no_grad()
    def embed_tokens(self, tokens: Tensor, mask: Tensor) -> Tensor:
        assert self._encode_text is not None, "this model knows images only"
        with autocast(self.precision, self.device):
            vectors = self._encode_text(tokens.to(self.device), mask.to(self.device))
        return F.normalize(vectors.float(), dim=1)

    def encode_images(self, pixels: Pixels) -> Floats:
        vectors = self.embed_images(torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2))
        unit: Floats = (vectors if self.config.normalize else F.normalize(vectors, dim=1)).cpu().numpy()
        return unit

    def encode_texts(self, tokens: Ids, mask: Mask) -> Floats:
        unit: Floats = self.embed_tokens(torch.from_numpy(tokens), torch.from_numpy(mask)).cpu().numpy()
        return unit

    def resize(self) -> Resize:
        return super().resize() if self._resize is None else self._resize

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
            "preprocess": self._sizing(),
            "precision": self.precision,
            "device": self.device.type,
            "versions": {name: version(name) for name in dict.fromkeys((*PACKAGES, self.config.library))},
        }


def normalized(images: Tensor, preprocess: PreprocessConfig) -> Tensor:
    """(B, 3, H, W) bytes to floats with a mean of 0 and a standard deviation of 1, as CLIPs take them."""
    mean, std = (torch.tensor(part, device=images.device).view(3, 1, 1) for part in (preprocess.mean, preprocess.std))
    return (images.float() / 255 - mean) / std
