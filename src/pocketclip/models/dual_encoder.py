"""The model of every method: two towers, two heads, a temperature, and sometimes an encoder that both towers share."""

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.profiler import record_function

from pocketclip.image_size import height_and_width
from pocketclip.models.readout import Modality
from pocketclip.models.shared_encoder import Layers, SharedEncoder
from pocketclip.models.shared_tower import SharedTower, through_shared
from pocketclip.models.tower import CachedTower, ImageTower, TextTower, Tower
from pocketclip.types import Features, ImageTextBatch, LayerFeatures, WordFeatures

MAX_LOGIT_SCALE = math.log(100)
PARTS = ("image_encoder", "text_encoder", "heads")
"""Names of the parts that have a learning rate each; the temperature goes with the heads."""


class DualEncoder(nn.Module):
    """Puts images and texts into one space of D dimensions.

    Args:
        image_encoder: images to (B, F), or with a shared encoder to tokens (B, L, F).
        text_encoder: tokens and mask to (M, F), or to (M, L, F).
        image_head: (B, F) to (B, D), or each token of (B, L, F) to D numbers.
        text_head: likewise.
        shared_encoder: what the tokens of both pass through, apart; its output is the embedding. None for two plain
            towers.
        temperature: start of the temperature; its inverse's logarithm is the parameter `logit_scale`.
        learn_temperature: False keeps it fixed.
        logit_bias: start of a learned bias; None for none.
        pair_head: embeddings of pairs of images and their sentences to (P,) logits; None where nothing is judged.
        numbers: another model's `logit_scale` and `logit_bias`, to share in the place of own ones.
    """

    image_encoder: ImageTower
    text_encoder: TextTower
    logit_scale: Tensor
    logit_bias: Tensor

    def __init__(
        self,
        image_encoder: ImageTower,
        text_encoder: TextTower,
        image_head: nn.Module,
        text_head: nn.Module,
        *,
        shared_encoder: SharedEncoder | None = None,
        temperature: float = 0.07,
        learn_temperature: bool = True,
        logit_bias: float | None = None,
        pair_head: nn.Module | None = None,
        numbers: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.image_head = image_head
        self.text_head = text_head
        if numbers is None:
            scale, bias = torch.tensor(math.log(1 / temperature)), torch.tensor(logit_bias or 0.0)
            numbers = (
                nn.Parameter(scale) if learn_temperature else scale,
                bias if logit_bias is None else nn.Parameter(bias),
            )
        for name, value in zip(("logit_scale", "logit_bias"), numbers, strict=True):
            if isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            else:
                self.register_buffer(name, value)
        self.pair_head = pair_head
        self.shared_encoder = shared_encoder

    def pathway(self, modality: Modality) -> tuple[Tower, nn.Module]:
        """What gives a feature, which can be computed once, and what makes an embedding of it.

        With a shared encoder the first is the whole way, and the second does nothing.
        """
        tower, head = self._side(modality)
        if self.shared_encoder is None:
            return tower, head
        return SharedTower(tower, head, self.shared_encoder, modality), nn.Identity()

    def _side(self, modality: Modality) -> tuple[Tower, nn.Module]:
        is_image = modality == "image"
        return (self.image_encoder, self.image_head) if is_image else (self.text_encoder, self.text_head)

    def encode_image(self, images: Shaped[Tensor, "B ..."]) -> Float[Tensor, "B D"]:
        """Embeddings of images in float32, not normalised."""
        return self._embed("image", images)[0]

    def encode_text(self, tokens: Shaped[Tensor, "M ..."], token_mask: Bool[Tensor, "M ..."]) -> Float[Tensor, "M D"]:
        """Embeddings of texts in float32, not normalised."""
        return self._embed("text", tokens, token_mask)[0]

    def _embed(self, modality: Modality, *inputs: Tensor) -> tuple[Tensor, Layers]:
        """Embeddings in float32, and what inner layers of a shared encoder make of the inputs."""
        layers: Layers = ()
        tower, head = self._side(modality)
        with record_function(f"{modality} tower"):
            if self.shared_encoder is None:
                embedded = head(tower(*inputs))
            else:
                embedded, layers = through_shared(tower, head, self.shared_encoder, modality, *inputs)
            return embedded.float(), layers

    def encode(self, batch: ImageTextBatch) -> tuple[Tensor, Tensor, tuple[LayerFeatures, ...], WordFeatures | None]:
        """Embeddings of a batch's images and texts, what inner layers of a shared encoder make of them, and words."""
        words = None
        if batch.masked is None:
            image, image_layers = self._embed("image", batch.images)
        else:
            feature, places = self.image_encoder.with_places(batch.images)
            image, image_layers = self.image_head(feature).float(), ()
            states = self.text_encoder.word_states(batch.masked.tokens, batch.token_mask)
            words = WordFeatures(states.float(), places.float())
        text, text_layers = self._embed("text", batch.tokens, batch.token_mask)
        pairs = zip(image_layers, text_layers, strict=True)
        return image, text, tuple(LayerFeatures(one.float(), other.float()) for one, other in pairs), words

    def encode_views(self, batch: ImageTextBatch) -> tuple[Tensor, ...]:
        """The image tower's features of a batch's further views, which no head sees."""
        tower = self.pathway("image")[0]
        return tuple(tower(view).float() for view in batch.views)

    @property
    def width_of_views(self) -> int:
        """The width of what `encode_views` makes."""
        if self.shared_encoder is None:
            return self.image_encoder.feature_dim
        return int(self.shared_encoder.widths[0])

    @torch.no_grad()
    def widths_of_words(self) -> tuple[int, int]:
        """The widths of a text tower's state of a word and of an image tower's place.

        Raises:
            UserError: the text tower gives no words.
        """
        image, text = copy.deepcopy(self.image_encoder).eval(), copy.deepcopy(self.text_encoder).eval()
        device, size = self.logit_scale.device, image.preprocess.image_size
        _, places = image.with_places(torch.zeros(1, 3, *height_and_width(size), dtype=torch.uint8, device=device))
        ones = torch.ones(1, 2, dtype=torch.int64, device=device)
        return text.word_states(ones, ones.bool()).shape[-1], places.shape[-1]

    def forward(self, batch: ImageTextBatch) -> Features:
        """Embeddings of a batch with the temperature's exponential and the bias."""
        image, text, layers, words = self.encode(batch)
        numbers = self.logit_scale.exp(), self.logit_bias
        features = Features(image, text, *numbers, layers, self.encode_views(batch), words=words)
        return self.judged(features, batch)

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

    def _encoders(self) -> list[Tower | SharedEncoder]:
        return [module for module in self.children() if isinstance(module, (Tower, SharedEncoder))]

    def checkpoint_activations(self) -> None:
        """Towers and shared encoder compute activations again in the backward pass: less memory, more time."""
        for encoder in self._encoders():
            encoder.checkpoint_activations()

    def compile_for_training(self) -> None:
        """Towers and shared encoder run through torch.compile from the next call on; weights keep their names."""
        for encoder in self._encoders():
            encoder.compile_for_training()

    def heads_only(self) -> "DualEncoder":
        """A model over cached features that shares this one's heads, temperature and bias."""
        return self._over_features(CachedTower())

    def without_image_tower(self) -> "DualEncoder":
        """A model over cached features of images that shares all else with this one."""
        return self._over_features(self.text_encoder)

    def _over_features(self, text_encoder: TextTower) -> "DualEncoder":
        heads = self.pathway("image")[1], self.pathway("text")[1]
        numbers = self.logit_scale, self.logit_bias
        return DualEncoder(CachedTower(), text_encoder, *heads, pair_head=self.pair_head, numbers=numbers)

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
        return [*self.image_encoder.frozen_parameters, *self.text_encoder.frozen_parameters]

    def architecture(self) -> Mapping[str, Any]:
        """What a bundle's config needs beyond the recipe to rebuild the towers without a hub."""
        return self.text_encoder.architecture
