"""Any timm image tower by its name."""

from contextlib import nullcontext
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Shaped
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip.config import Config
from pocketclip.errors import UserError, first_line, require, unknown_choice
from pocketclip.models.image.beit import tower_weights
from pocketclip.models.image.pixels import NORMALIZATIONS, PixelTower
from pocketclip.models.image.timm_layers import as_tokens, drop_unused, keep_blocks, leading_layers, load_package
from pocketclip.models.origin.inherit import InheritConfig
from pocketclip.models.origin.weights import IMAGE_PACKAGES, load_weights, read_state_dict
from pocketclip.preprocess import ImageSize, PreprocessConfig


class TimmImageEncoderConfig(Config):
    """A timm model without its classifier."""

    gives_tokens: ClassVar[bool] = True

    kind: Literal["timm"] = "timm"
    name: str
    """timm's name, such as `mobilenetv2_100` or `vit_tiny_patch16_224`."""
    pretrained: str = "hub"
    """`hub`, `package` (a pip package carries the weights), `none`, or a weights file."""
    num_layers: PositiveInt | None = None
    """Only the first blocks of a vision transformer (ViT, BEiT, DINO and their kin), without its final norm, which
    belongs to its last block; None keeps the whole tower."""
    image_size: ImageSize = 224
    resize: Literal["squash", "crop"] = "crop"
    crop_fraction: float = Field(default=1.0, gt=0, le=1)
    """Share of the picture's shorter side that is kept; captions speak of the whole picture, hence 1."""
    interpolation: Literal["native", "bilinear", "bicubic"] = "native"
    normalization: Literal["native", "imagenet", "clip", "none"] = "native"
    """Mean and standard deviation the tower was trained with; or, whatever the tower, ImageNet's, CLIP's, or none."""
    pooling: Literal["average", "cls", "native"] = "native"
    """`native` is what the model was trained with."""
    joined_stages: tuple[int, ...] = ()
    """Stages (negative counts from the last) whose averaged maps are joined before the final feature."""
    frozen_layers: NonNegativeInt = 0
    """Leading groups of layers, as timm counts them with the stem first, that stay as pretrained in training: less to
    compute, to hold in memory and to overfit with."""
    drop_path_rate: float = Field(default=0.0, ge=0, lt=1)
    inherit: "InheritConfig[TimmImageEncoderConfig] | None" = None
    """A larger tower to start from, with `pretrained: none`."""

    @model_validator(mode="after")
    def _settings_fit_together(self) -> "TimmImageEncoderConfig":
        if self.inherit is not None and self.pretrained != "none":
            raise ValueError(f"inherit brings the weights, so pretrained should be none (got {self.pretrained})")
        if self.num_layers is not None and self.joined_stages:
            raise ValueError("joined_stages goes with a whole tower; leave it or num_layers out")
        return self

    def build(self, *, load_pretrained: bool = True, with_classifier: bool = False) -> "TimmImageEncoder":
        """Create the tower, without `load_pretrained` with random weights, for a bundle that brings its own.

        With its classifier its features are the logits of the model's own classes; teachers are asked for those.

        Raises:
            UserError: unknown name, or weights that cannot be had.
        """
        timm = require("timm", extra="train")  # takes seconds to import, so nothing here does it earlier
        origin = self.pretrained if load_pretrained else "none"
        if not timm.is_model(self.name):
            near = get_close_matches(self.name, timm.list_models(), n=5) or timm.list_models("mobilenet*")
            raise unknown_choice("timm image tower", self.name, near)
        tower = self._create(use_hub=origin == "hub", with_classifier=with_classifier)
        if origin == "package":
            load_package(tower, self.name)
        elif origin not in ("hub", "none"):
            weights = tower_weights(read_state_dict(Path(origin)))
            ignore = "" if with_classifier else tower.pretrained_cfg.get("classifier", "")
            load_weights(tower, weights, place=origin, ignore=ignore)
        if self.num_layers is not None:
            keep_blocks(tower, self.num_layers, name=self.name)
        if self.inherit is not None and load_pretrained:
            self.inherit.fill(tower, TimmImageEncoderConfig, "image_encoder")
        return TimmImageEncoder(tower, self)

    def _create(self, *, use_hub: bool, with_classifier: bool) -> Any:
        options: dict[str, Any] = {} if with_classifier else {"num_classes": 0}
        if self.pooling != "native":
            options["global_pool"] = {"average": "avg", "cls": "token"}[self.pooling]
        if self.drop_path_rate:
            options["drop_path_rate"] = self.drop_path_rate
        create = partial(require("timm", extra="train").create_model, self.name, pretrained=use_hub, **options)
        try:
            try:
                return create(img_size=self.image_size)  # position embeddings depend on it
            except TypeError:  # most convolutional towers take every size, and no such argument
                return create()
        except (TypeError, AssertionError, ValueError) as error:
            raise UserError(
                f"{self.name}: cannot be built at {self.image_size} px with {options} ({error})."
            ) from error
        except Exception as error:
            if not use_hub:
                raise
            raise UserError(
                f"{self.name}: the hub did not answer with its weights ({first_line(error)}). "
                f"Without a hub: pretrained: package ({', '.join(IMAGE_PACKAGES)}), a path, or none."
            ) from error


class TimmImageEncoder(PixelTower):
    """A timm tower that gives one feature an image."""

    def __init__(self, tower: Any, config: TimmImageEncoderConfig) -> None:
        data = require("timm.data", extra="train").resolve_model_data_config(tower)
        given = config.model_dump(include={"image_size", "resize", "crop_fraction", "interpolation"})
        if config.interpolation == "native":
            given["interpolation"] = "bilinear" if data["interpolation"] == "bilinear" else "bicubic"
        mean, std = NORMALIZATIONS.get(config.normalization, (data["mean"], data["std"]))
        super().__init__(PreprocessConfig(**given, mean=tuple(mean), std=tuple(std)))
        self.tower: Any = tower
        self.settings = {"name": config.name, "pooling": config.pooling, "joined_stages": config.joined_stages}
        self.gives_tokens, self.has_class_token = False, getattr(tower, "cls_token", None) is not None
        count = len(getattr(tower, "feature_info", ()))
        self._joined_stages = sorted(stage + count if stage < 0 else stage for stage in config.joined_stages)
        if any(not 0 <= stage < count for stage in self._joined_stages):
            raise UserError(f"joined_stages: this tower has stages 0 to {count - 1} (got {config.joined_stages}).")
        if any(parameter.ndim == 4 for parameter in tower.parameters()):
            tower.to(memory_format=torch.channels_last)  # convolutions run up to 5x faster so, on CPU and GPU
        self.is_depthwise = any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in tower.modules())
        self.frozen_modules, self._frozen_names = leading_layers(tower, config.frozen_layers)
        self.feature_dim = self._measure_feature_dim()

    @property
    def frozen_parameters(self) -> list[nn.Parameter]:
        return [value for name, value in self.tower.named_parameters() if name in self._frozen_names]

    def checkpoint_activations(self) -> None:
        try:
            self.tower.set_grad_checkpointing(True)
        except (AssertionError, AttributeError) as error:
            raise UserError(f"train.checkpoint_activations: timm has none for {self.settings['name']}.") from error

    @torch.no_grad()
    def _measure_feature_dim(self) -> int:
        was_training = self.training
        self.eval()
        size = self.preprocess.image_size
        try:
            width = int(self(torch.zeros(1, 3, size, size)).shape[-1])
        except (AssertionError, RuntimeError) as error:
            raise UserError(f"image_size: this tower takes no pictures of {size} px ({first_line(error)}).") from error
        self.train(was_training)
        return width

    def give_tokens(self) -> None:
        """From now on give a transformer's tokens, class token first, or a map's places; what pools them is dropped."""
        self.gives_tokens = True
        self.settings = {**self.settings, "gives_tokens": True}
        drop_unused(self.tower, self.preprocess.image_size)
        self.feature_dim = self._measure_feature_dim()

    def forward(self, images: Shaped[Tensor, "B 3 H W"]) -> Float[Tensor, "B ... F"]:
        """(B, F), or (B, L, F) after `give_tokens`, of bytes, or of floats normalised with `preprocess`."""
        images = self.normalise(images)
        # The backward of a depthwise convolution in bfloat16 is slow on CPUs: EfficientNet-Lite0 at 160 px trains
        # at 48 images/s so, and at 80 in float32 (benchmarks/training_precision.py)
        keep_float = self.is_depthwise and self.training and images.device.type == "cpu"
        with torch.autocast("cpu", enabled=False) if keep_float else nullcontext():
            if self.gives_tokens:
                return as_tokens(self.tower, self.tower.forward_features(images))
            if not self._joined_stages:
                features: Tensor = self.tower(images)
                return features
            last, maps = self.tower.forward_intermediates(images, indices=self._joined_stages)
            pooled = [F.adaptive_avg_pool2d(stage, 1).flatten(1) for stage in maps]
            return torch.cat([*pooled, self.tower.forward_head(last, pre_logits=True)], dim=1)
