"""Running a model over many images and texts without training it: folded, in the device's fast number type."""

import copy
import functools
import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.precision import Precision, autocast, resolve_precision
from pocketclip.models.reparam import fold_batch_norms

Floats = npt.NDArray[np.float32]


class Runner:
    """Encodes batches of pixels and tokens with a snapshot of a model.

    Args:
        model: a tower is copied when first used, and is not followed when the model is trained on.
        device: where to compute.
        precision: `auto` is bfloat16 where the device multiplies it in hardware.
        image_size: of the pixels that will come.
        heads: False stops at the towers' features.
    """

    def __init__(
        self,
        model: DualEncoder,
        *,
        device: torch.device,
        precision: Precision = "auto",
        image_size: int,
        heads: bool = True,
    ) -> None:
        self.device = device
        self.precision = resolve_precision(precision, device)
        self.heads = heads
        self.model = model.to(device).eval()
        self.image_size = image_size

    @functools.cached_property
    def image_encoder(self) -> nn.Module:
        """The image tower as it runs: batch norms folded, weights in the number type."""
        size = (2, 3, self.image_size, self.image_size)
        noise = torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return self._prepared(fold_batch_norms(self.model.image_encoder, noise.to(self.device)))

    @functools.cached_property
    def text_encoder(self) -> nn.Module:
        """The text tower as it runs."""
        return self._prepared(copy.deepcopy(self.model.text_encoder).eval())

    def _prepared(self, encoder: nn.Module) -> nn.Module:
        if self.precision == "bfloat16":
            cast_weights(encoder)
        return encoder

    @torch.inference_mode()
    def encode_images(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """(B, H, W, 3) bytes to (B, F) features, or (B, D) embeddings of unit length."""
        images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).to(self.device)
        with autocast(self.precision, self.device):
            features = self.image_encoder(images)
        return self._finish(features, self.model.image_head)

    @torch.inference_mode()
    def encode_tokens(self, tokens: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_]) -> Floats:
        """(B, L) ids and mask to (B, F) features, or (B, D) embeddings of unit length."""
        with autocast(self.precision, self.device):
            features = self.text_encoder(
                torch.from_numpy(tokens).to(self.device), torch.from_numpy(mask).to(self.device)
            )
        return self._finish(features, self.model.text_head)

    @torch.inference_mode()
    def project(self, images: Floats, texts: Floats) -> tuple[Floats, Floats]:
        """Embeddings of unit length from features of the towers."""
        return (
            unit(self.model.image_head(torch.from_numpy(images).to(self.device))),
            unit(self.model.text_head(torch.from_numpy(texts).to(self.device))),
        )

    def _finish(self, features: Tensor, head: nn.Module) -> Floats:
        if not self.heads:
            array: Floats = features.float().cpu().numpy()
            return array
        return unit(head(features.float()))


def cast_weights(encoder: nn.Module) -> None:
    """Store the weights of linear layers and convolutions in bfloat16, which autocast would cast at every call."""
    for module in encoder.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.to(torch.bfloat16)


def unit(embeddings: Tensor) -> Floats:
    """Rows of unit length, in float32 on the CPU."""
    array: Floats = nn.functional.normalize(embeddings.float(), dim=1).cpu().numpy()
    return array


def module_fingerprint(module: nn.Module, settings: Any) -> str:
    """A hash of a module's weights and of the settings that shape its output; cached features hang on it."""
    hasher = hashlib.sha256(repr(settings).encode())
    for name, value in sorted(module.state_dict().items()):
        hasher.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        hasher.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return hasher.hexdigest()[:16]
