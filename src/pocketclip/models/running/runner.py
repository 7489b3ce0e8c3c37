"""Running a model over many images and texts without training it: folded, in a fast number type, by a fast backend."""

import functools
import hashlib
import threading
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pocketclip.config import digest
from pocketclip.hardware import keep_freed_memory
from pocketclip.image_size import ImageSize, height_and_width
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.readout import Modality
from pocketclip.models.running.backend_calls import Inputs
from pocketclip.models.running.backend_memory import Backend
from pocketclip.models.running.backends import Backends, requested_inference
from pocketclip.models.running.fused import FusedConvolution, fuse_activations
from pocketclip.models.running.precision import Precision, autocast, resolve_precision
from pocketclip.models.running.reparam import fuse_image_tower, fuse_text_tower
from pocketclip.models.running.threads import THREADS

Floats = npt.NDArray[np.float32]
MODALITIES: tuple[Modality, ...] = get_args(Modality)
IMAGES_A_CALL, TEXTS_A_CALL = 32, 64
"""Rows that a backend which needs a fixed number is set up for."""
PROJECTED_A_CALL = 8192
"""Rows of features that pass a head at a time."""
CAPTION_TOKENS = (8, 14, 20)
"""Lengths of the texts that backends are timed with; captions have 14 in the middle."""


class Runner:
    """Encodes batches of pixels and tokens with a snapshot of a model.

    Args:
        model: a tower is copied when first used, and is not followed when the model is trained on.
        precision: `auto` is bfloat16 where the device is faster in it.
        image_size: of the pixels that will come.
        heads: False stops at the towers' features.
        inference: `eager`, `compiled` or `onnx`; `auto` is what the environment variable POCKETCLIP_INFERENCE says,
            else what `plan` finds. Without a plan it is `eager`.

    Raises:
        UserError: no such backend.
    """

    def __init__(
        self,
        model: DualEncoder,
        *,
        device: torch.device,
        precision: Precision = "auto",
        image_size: ImageSize,
        heads: bool = True,
        inference: str = "auto",
    ) -> None:
        if device.type == "cpu":
            keep_freed_memory()
        self.device = device
        self.inference = requested_inference(inference)
        first: Backend = "eager" if self.inference == "auto" else self.inference
        self.backend = dict.fromkeys(MODALITIES, first)
        """What each tower runs with."""
        self._lock = threading.RLock()  # several threads may come first
        self._encoders: dict[Modality, nn.Module] = {}
        self._backends: dict[Modality, Backends] = {}
        self.precision = resolve_precision(precision, device)
        self.model = model.to(device).eval()
        self._heads = {modality: model.pathway(modality)[1] for modality in MODALITIES} if heads else None
        self.image_size = image_size

    def plan(self, *, num_images: int = 0, num_texts: int = 0) -> None:
        """Say how much work comes, so that each tower gets the backend that is through with it first.

        Measures backends once for a machine and a tower where the work is long enough; see `Backends.choose`.
        """
        counts: dict[Modality, int] = {"image": num_images, "text": num_texts}
        for modality, count in counts.items():
            if count and self.inference == "auto":
                self.backend[modality] = self.backends(modality).choose(count)

    def encoder(self, modality: Modality) -> nn.Module:
        """A tower as `eager` runs it: fused, of images activations too, weights in the number type; made once."""
        with self._lock:
            if modality not in self._encoders:
                tower = self._fused(modality)
                if modality == "image":
                    tower = fuse_activations(tower, self._noise)
                self._encoders[modality] = _cast(tower, self.precision)
            return self._encoders[modality]

    @functools.cached_property
    def _noise(self) -> Tensor:
        size = (2, 3, *height_and_width(self.image_size))
        noise = torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return noise.to(self.device)

    def _fused(self, modality: Modality) -> nn.Module:
        tower = self.model.pathway(modality)[0]
        return fuse_image_tower(tower, self._noise) if modality == "image" else fuse_text_tower(tower)

    def backends(self, modality: Modality) -> Backends:
        """The ways to run a tower; made once."""
        with self._lock:
            if modality not in self._backends:
                tower = self.model.pathway(modality)[0]
                shapes = [[name, list(value.shape), str(value.dtype)] for name, value in tower.state_dict().items()]
                made_from = {
                    "part": modality,
                    "tower": digest([tower.settings, shapes]),
                    "image_size": self.image_size if modality == "image" else None,
                    "precision": self.precision,
                }
                self._backends[modality] = Backends(
                    self.encoder(modality),
                    lambda precision: _cast(self._fused(modality), precision),
                    self._image_examples() if modality == "image" else self._text_examples(tower),
                    precision=self.precision,
                    made_from=made_from,
                )
            return self._backends[modality]

    def _image_examples(self) -> list[Inputs]:
        size = (IMAGES_A_CALL, 3, 8, 8)
        smooth = torch.randint(0, 256, size, generator=torch.Generator().manual_seed(0)).float()
        pictures = nn.functional.interpolate(smooth, height_and_width(self.image_size), mode="bilinear")
        # As decoded pictures come: the channels of a pixel beside one another
        return [(pictures.to(torch.uint8).contiguous(memory_format=torch.channels_last).to(self.device),)]

    def _text_examples(self, tower: nn.Module) -> list[Inputs]:
        vocabulary = next(module.num_embeddings for module in tower.modules() if isinstance(module, nn.Embedding))
        longest = self.model.architecture().get("max_position_embeddings", 512) - 2
        random = torch.Generator().manual_seed(0)
        examples: list[Inputs] = []
        for length in CAPTION_TOKENS:
            size = (TEXTS_A_CALL, min(length, longest))
            tokens = torch.randint(0, vocabulary, size, generator=random).to(self.device)
            examples.append((tokens, torch.ones_like(tokens, dtype=torch.bool)))
        return examples

    def encode_images(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """(B, H, W, 3) bytes to (B, F) features, or (B, D) embeddings of unit length."""
        return self._encode("image", torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2))

    def encode_tokens(self, tokens: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_]) -> Floats:
        """(B, L) ids and mask to (B, F) features, or (B, D) embeddings of unit length."""
        return self._encode("text", torch.from_numpy(tokens), torch.from_numpy(mask))

    @torch.inference_mode()
    def _encode(self, modality: Modality, *inputs: Tensor) -> Floats:
        with THREADS.while_running(self.suited_threads(modality, len(inputs[0]))):
            features = self._features(modality, *(tensor.to(self.device) for tensor in inputs)).float()
        array: Floats = features.cpu().numpy() if self._heads is None else unit(self._heads[modality](features))
        return array

    def suited_threads(self, modality: Modality, count: int) -> int:
        """How many of torch's threads run a tower over so many inputs."""
        if self.device.type != "cpu" or self.backend[modality] != "eager":  # torch compiles anew for another number
            return torch.get_num_threads()
        return THREADS.suited(count, self._sizes[modality])

    @functools.cached_property
    def _sizes(self) -> dict[Modality, int]:
        return {modality: _num_multiplied(self.model.pathway(modality)[0]) for modality in MODALITIES}

    @torch.no_grad()
    def embed(self, modality: Modality, *inputs: Tensor) -> Tensor:
        """(B, 3, H, W) bytes, or (B, L) ids and mask, to (B, D) of unit length on our device; a loss may hold them."""
        assert self._heads is not None, "made to stop at features"
        return nn.functional.normalize(self._heads[modality](self._features(modality, *inputs).float()), dim=1)

    def _features(self, modality: Modality, *inputs: Tensor) -> Tensor:
        if self.backend[modality] != "eager":
            with self._lock:
                call = self.backends(modality).call(self.backend[modality])
            return call(*inputs)
        tower = self.encoder(modality)  # out here: made inside, its branches would be fused in bfloat16
        with autocast(self.precision, self.device):
            features: Tensor = tower(*inputs)
        return features


def _num_multiplied(tower: nn.Module) -> int:
    """Parameters that every input is multiplied with: all but the vectors of words."""
    words = sum(module.weight.numel() for module in tower.modules() if isinstance(module, nn.Embedding))
    return sum(parameter.numel() for parameter in tower.parameters()) - words


def _cast(tower: nn.Module, precision: Precision) -> nn.Module:
    if precision == "bfloat16":
        cast_weights(tower)
    return tower


def cast_weights(encoder: nn.Module) -> None:
    """Store the weights of linear layers and convolutions in bfloat16, which autocast would cast at every call.

    Depthwise filters are rounded so that their sums stay, and biases of convolutions are left as they are:
    plain rounding of the two was nearly all of EfficientNet-Lite0's error (see docs/log.md).
    """
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            module.to(torch.bfloat16)
        elif isinstance(module, (nn.Conv2d, FusedConvolution)):
            rounded = round_keeping_sums(module.weight) if module.groups > 1 else module.weight.to(torch.bfloat16)
            module.weight = nn.Parameter(rounded, requires_grad=False)


@torch.no_grad()
def round_keeping_sums(filters: Tensor) -> Tensor:
    """Filters in bfloat16 whose sums are nearly those of the given ones: neighbouring pixels are alike.

    From the largest weight of a filter, which is a row, to its smallest, each takes on the rounding errors of those
    before it.
    """
    flat = filters.flatten(1)
    order = flat.abs().argsort(1, descending=True)
    values, rounded, error = flat.gather(1, order), torch.empty_like(flat), torch.zeros_like(flat[:, 0])
    for place in range(flat.shape[1]):
        wanted = values[:, place] + error
        rounded[:, place] = wanted.to(torch.bfloat16)
        error = wanted - rounded[:, place]
    result = torch.empty_like(flat).scatter_(1, order, rounded).view_as(filters)
    return result.to(torch.bfloat16, memory_format=torch.channels_last if filters.ndim == 4 else torch.preserve_format)


def unit(embeddings: Tensor) -> Floats:
    """Rows of unit length, in float32 on the CPU."""
    array: Floats = nn.functional.normalize(embeddings.float(), dim=1).cpu().numpy()
    return array


@torch.inference_mode()
def project(
    head: nn.Module,
    features: npt.NDArray[np.floating[Any]],
    device: torch.device,
    rows: npt.NDArray[np.int64] | None = None,
) -> Floats:
    """Embeddings of unit length from (N, F) features in any number type, or of some of their rows, block by block."""
    parts = []
    for first in range(0, max(1, len(features if rows is None else rows)), PROJECTED_A_CALL):
        block = slice(first, first + PROJECTED_A_CALL)
        chosen = features[block] if rows is None else features[rows[block]]
        parts.append(unit(head(torch.from_numpy(chosen.astype(np.float32)).to(device))))
    return np.concatenate(parts)


def module_fingerprint(module: nn.Module, settings: Any) -> str:
    """A hash of a module's weights and of the settings that shape its output; cached features hang on it."""
    hasher = hashlib.sha256(repr(settings).encode())
    for name, value in sorted(module.state_dict().items()):
        hasher.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        hasher.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return hasher.hexdigest()[:16]
