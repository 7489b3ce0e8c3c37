"""Any timm image tower by its name."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip.errors import UserError, first_line, require, unknown_choice
from pocketclip.image_size import ImageSize, height_and_width, written
from pocketclip.models.image.beit import tower_weights
from pocketclip.models.image.mixer import create_mixer, is_another_mixer
from pocketclip.models.image.pixels import NORMALIZATIONS, PixelTower
from pocketclip.models.image.second_look import SecondLookConfig
from pocketclip.models.image.timm_layers import (
    as_tokens,
    drop_unused,
    layer_groups,
    leading_layers,
    load_package,
    resample_positions,
    resampled,
)
from pocketclip.models.image.timm_patches import at_any_size, on_patches
from pocketclip.models.origin.packages import IMAGE_PACKAGES
from pocketclip.models.origin.weights import load_weights, read_state_dict
from pocketclip.models.tower import with_the_rest
from pocketclip.preprocess import PreprocessConfig


def create_tower(name: str, image_size: ImageSize, options: Mapping[str, Any], *, use_hub: bool) -> Any:
    """A tower of timm with random weights, or with those of the hub.

    Raises:
        UserError: unknown name, a size or options that it does not take, or no answer of the hub.
    """
    timm = require("timm", extra="train")  # takes seconds to import, so nothing here does it earlier
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=5) or timm.list_models("mobilenet*")
        raise unknown_choice("timm image tower", name, near)
    create = partial(timm.create_model, name, pretrained=use_hub, **options)
    try:
        if is_another_mixer(name, options):
            return create_mixer(name, image_size, options)
        try:
            return create(img_size=image_size)  # position embeddings depend on it
        except TypeError:  # most convolutional towers take every size, and no such argument
            return create()
    except (TypeError, AssertionError, ValueError) as error:
        raise UserError(f"{name}: cannot be built at {written(image_size)} px with {options} ({error}).") from error
    except Exception as error:
        if not use_hub:
            raise
        raise UserError(
            f"{name}: the hub did not answer with its weights ({first_line(error)}). "
            f"Without a hub: pretrained: package ({', '.join(IMAGE_PACKAGES)}), a path, or none."
        ) from error


def fill_tower(tower: Any, name: str, origin: str, *, with_classifier: bool) -> None:
    """Fill a tower from its pip package or from a file; `hub` and `none` leave it as it is.

    Raises:
        UserError: the weights cannot be had, or do not fit.
    """
    if origin == "package":
        load_package(tower, name)
    elif origin not in ("hub", "none"):
        weights = resampled(tower, tower_weights(read_state_dict(Path(origin))), place=origin)
        ignore = "" if with_classifier else tower.pretrained_cfg.get("classifier", "")
        load_weights(tower, weights, place=origin, ignore=ignore)


def preprocess_of(tower: Any, normalization: str, shown: Mapping[str, Any]) -> PreprocessConfig:
    """How pictures are prepared for a tower: as it was trained with where the settings are `native`."""
    data = require("timm.data", extra="train").resolve_model_data_config(tower)
    given = dict(shown)
    if given["interpolation"] == "native":
        given["interpolation"] = "bilinear" if data["interpolation"] == "bilinear" else "bicubic"
    mean, std = NORMALIZATIONS.get(normalization, (data["mean"], data["std"]))
    return PreprocessConfig(**given, mean=tuple(mean), std=tuple(std))


class TimmImageEncoder(PixelTower):
    """A timm tower that gives one feature an image."""

    def __init__(
        self,
        tower: Any,
        preprocess: PreprocessConfig,
        *,
        name: str,
        pooling: str,
        joined_stages: tuple[int, ...],
        frozen_layers: int,
        architecture: Mapping[str, Any] | None = None,
        second_look: SecondLookConfig | None = None,
    ) -> None:
        super().__init__(preprocess)
        self.tower: Any = tower
        self._second_look, self.looks_twice = second_look, second_look is not None
        self.settings = {"name": name, "pooling": pooling, "joined_stages": joined_stages}
        if architecture is not None:
            self.settings["architecture"] = dict(architecture)
        self.look_once(False)
        self.gives_tokens, self.has_class_token = False, getattr(tower, "cls_token", None) is not None
        count = len(getattr(tower, "feature_info", ()))
        self._joined_stages = sorted(stage + count if stage < 0 else stage for stage in joined_stages)
        if any(not 0 <= stage < count for stage in self._joined_stages):
            raise UserError(f"joined_stages: this tower has stages 0 to {count - 1} (got {joined_stages}).")
        if any(parameter.ndim == 4 for parameter in tower.parameters()):
            tower.to(memory_format=torch.channels_last)  # convolutions run up to 5x faster so, on CPU and GPU
        self.is_depthwise = any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in tower.modules())
        self.frozen_modules, self._frozen_names = leading_layers(tower, frozen_layers)
        self.feature_dim = self._measure_feature_dim()

    @property
    def frozen_parameters(self) -> list[nn.Parameter]:
        return [value for name, value in self.tower.named_parameters() if name in self._frozen_names]

    @property
    def parameters_by_layer(self) -> list[list[nn.Parameter]]:
        own = dict(self.tower.named_parameters())
        groups = [[own[name] for name in group if name in own] for group in layer_groups(self.tower)]
        return with_the_rest(groups, self)

    def checkpoint_activations(self) -> None:
        try:
            self.tower.set_grad_checkpointing(True)
        except (AssertionError, AttributeError) as error:
            raise UserError(f"train.checkpoint_activations: timm has none for {self.settings['name']}.") from error

    @torch.no_grad()
    def _measure_feature_dim(self) -> int:
        was_training = self.training
        self.eval()
        try:
            width = int(self(torch.zeros(1, 3, *self.preprocess.shape)).shape[-1])
        except (AssertionError, RuntimeError) as error:
            sizes = [self.preprocess.image_size, None if self._second_look is None else self._second_look.image_size]
            asked = " and ".join(written(size) for size in sizes if size is not None)
            raise UserError(f"image_size: this tower takes no pictures of {asked} px ({first_line(error)}).") from error
        self.train(was_training)
        return width

    def on_patches(self, share: float) -> AbstractContextManager[None]:
        return on_patches(self.tower, share, name=self.settings["name"])

    def resampled(self, weights: Mapping[str, Tensor], size: ImageSize) -> dict[str, Tensor]:
        name = "tower.pos_embed"
        patches: Any = getattr(self.tower, "patch_embed", None)
        if name not in weights or not hasattr(patches, "grid_size"):
            return dict(weights)
        grids = [
            [side // patch for side, patch in zip(sides, patches.patch_size, strict=True)]
            for sides in (height_and_width(size), self.preprocess.shape)
        ]
        prefix = 0 if getattr(self.tower, "no_embed_class", False) else getattr(self.tower, "num_prefix_tokens", 0)
        return {**weights, name: resample_positions(weights[name], *grids, num_prefix_tokens=prefix)}

    def at_any_size(self) -> AbstractContextManager[None]:
        return at_any_size(self.tower)

    def look_once(self, once: bool = True) -> None:
        self._looks_once = once
        settings = {name: value for name, value in self.settings.items() if name != "second_look"}
        if self._second_look is not None and not once:
            settings["second_look"] = self._second_look.model_dump()
        self.settings = settings

    def give_tokens(self) -> None:
        """From now on give a transformer's tokens, class token first, or a map's places; what pools them is dropped."""
        self.gives_tokens = True
        self.settings = {**self.settings, "gives_tokens": True}
        drop_unused(self.tower, self.preprocess.image_size)
        self.feature_dim = self._measure_feature_dim()

    def forward(self, images: Shaped[Tensor, "B 3 H W"]) -> Float[Tensor, "B ... F"]:
        """(B, F), or (B, L, F) after `give_tokens`, of bytes, or of floats normalised with `preprocess`."""
        images = self.normalise(images)
        with self._precision(images):
            if self.gives_tokens:
                return as_tokens(self.tower, self.tower.forward_features(images))
            features = self._look(images)
            if self._second_look is None or self._looks_once or self.training:
                return features
            return (features + self._look(self._seen_again(images, self._second_look))) / 2

    def _look(self, images: Tensor) -> Tensor:
        features: Tensor = self._joined(images)[0] if self._joined_stages else self.tower(images)
        return features

    def _seen_again(self, images: Tensor, look: SecondLookConfig) -> Tensor:
        if look.image_size is not None:
            size, mode = height_and_width(look.image_size), self.preprocess.interpolation
            shrinks = size[0] < images.shape[2] or size[1] < images.shape[3]
            images = F.interpolate(images, size, mode=mode, antialias=shrinks)
        images = images.flip(3) if look.flip else images
        return images.contiguous(memory_format=torch.channels_last)

    def with_places(self, images: Tensor) -> tuple[Tensor, Tensor]:
        images = self.normalise(images)
        with self._precision(images):
            if self._joined_stages:
                features, last = self._joined(images)
            else:
                last = self.tower.forward_features(images)
                features = self.tower.forward_head(last)
            return features, as_tokens(self.tower, last)

    def _joined(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The features of several stages, and what the last one gives."""
        last, maps = self.tower.forward_intermediates(images, indices=self._joined_stages)
        pooled = [F.adaptive_avg_pool2d(stage, 1).flatten(1) for stage in maps]
        return torch.cat([*pooled, self.tower.forward_head(last, pre_logits=True)], dim=1), last

    def _precision(self, images: Tensor) -> AbstractContextManager[None]:
        # The backward of a depthwise convolution in bfloat16 is slow on CPUs: EfficientNet-Lite0 at 160 px trains
        # at 48 images/s so, and at 80 in float32 (benchmarks/training_precision.py)
        keep_float = self.is_depthwise and self.training and images.device.type == "cpu"
        return torch.autocast("cpu", enabled=False) if keep_float else nullcontext()
