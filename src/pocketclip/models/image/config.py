"""Settings of the image towers, without torch: a tower's module is imported when it is built."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator

from pocketclip.config import Config
from pocketclip.image_size import ImageSize, height_and_width
from pocketclip.models.image.second_look import SecondLookConfig
from pocketclip.models.origin.config import InheritConfig
from pocketclip.preprocess import PreprocessConfig

if TYPE_CHECKING:
    from pocketclip.models.image.clip_resnet import ClipResNetEncoder
    from pocketclip.models.image.timm import TimmImageEncoder


NOT_ARCHITECTURE = {"img_size": "image_size", "global_pool": "pooling", "drop_path_rate": "drop_path_rate"}
NOT_ARCHITECTURE |= {"pretrained": "pretrained", "checkpoint_path": "pretrained", "num_classes": "nothing"}
"""Arguments of timm that are settings of their own, or none: a tower has no classes."""


class TimmImageEncoderConfig(Config):
    """A timm model without its classifier."""

    gives_tokens: ClassVar[bool] = True

    kind: Literal["timm"] = "timm"
    name: str
    """timm's name, such as `mobilenetv2_100` or `vit_tiny_patch16_224`."""
    pretrained: str = "hub"
    """`hub`, `package` (a pip package carries the weights), `none`, or a weights file."""
    architecture: dict[str, Any] | None = Field(default=None, exclude_if=lambda value: value is None)
    """What is other than the name's own, by the arguments of timm's class: of a vision transformer `patch_size`,
    `embed_dim` (its width), `depth`, `num_heads`, `mlp_ratio`, `class_token`; of Swin `depths`, `window_size`."""
    num_layers: PositiveInt | None = None
    """Only the first blocks of a vision transformer (ViT, BEiT, DINO and their kin), without its final norm, which
    belongs to its last block; None keeps the whole tower."""
    image_size: ImageSize = 224
    """Pixels a side, or height and width as `[384, 128]`; position embeddings are made, or resampled, for it."""
    resize: Literal["squash", "crop"] = "crop"
    crop_fraction: float = Field(default=1.0, gt=0, le=1)
    """Share of the picture's shorter side that is kept; captions speak of the whole picture, hence 1."""
    interpolation: Literal["native", "bilinear", "bicubic"] = "native"
    normalization: Literal["native", "imagenet", "clip", "half", "none"] = "native"
    """Mean and standard deviation the tower was trained with; or, whatever the tower, ImageNet's, CLIP's, a half of
    both (pixels of -1 to 1), or none."""
    pooling: Literal["average", "cls", "native"] = "native"
    """`native` is what the model was trained with."""
    joined_stages: tuple[int, ...] = ()
    """Stages (negative counts from the last) whose averaged maps are joined before the final feature."""
    frozen_layers: NonNegativeInt = 0
    """Leading groups of layers, as timm counts them with the stem first, that stay as pretrained in training: less to
    compute, to hold in memory and to overfit with."""
    drop_path_rate: float = Field(default=0.0, ge=0, lt=1)
    second_look: SecondLookConfig | None = Field(default=None, exclude_if=lambda value: value is None)
    """In inference, not in training, also look at each picture another way."""
    inherit: "InheritConfig[TimmImageEncoderConfig] | None" = None
    """A larger tower to start from, with `pretrained: none`."""

    @model_validator(mode="after")
    def _settings_fit_together(self) -> "TimmImageEncoderConfig":
        if self.inherit is not None and self.pretrained != "none":
            raise ValueError(f"inherit brings the weights, so pretrained should be none (got {self.pretrained})")
        if self.num_layers is not None and self.joined_stages:
            raise ValueError("joined_stages goes with a whole tower; leave it or num_layers out")
        look = self.second_look
        if look is not None and not look.flip and look.image_size in (None, self.image_size):
            raise ValueError("second_look sees what the first one saw; give it flip: true or another image_size")
        if self.architecture is not None:
            if self.pretrained in ("hub", "package"):
                raise ValueError(
                    f"architecture makes another tower than the {self.pretrained} has weights of; give pretrained: "
                    "none, or a file"
                )
            for key in self.architecture.keys() & NOT_ARCHITECTURE.keys():
                raise ValueError(f"architecture.{key} is {NOT_ARCHITECTURE[key]} here; leave it out")
        return self

    def build(self, *, load_pretrained: bool = True, with_classifier: bool = False) -> "TimmImageEncoder":
        """Create the tower, without `load_pretrained` with random weights, for a bundle that brings its own.

        With its classifier its features are the logits of the model's own classes; teachers are asked for those.

        Raises:
            UserError: unknown name, or weights that cannot be had.
        """
        from pocketclip.models.image.timm import TimmImageEncoder, create_tower, fill_tower, preprocess_of
        from pocketclip.models.image.timm_layers import keep_blocks

        origin = self.pretrained if load_pretrained else "none"
        options: dict[str, Any] = {**(self.architecture or {}), **({} if with_classifier else {"num_classes": 0})}
        if self.pooling != "native":
            options["global_pool"] = {"average": "avg", "cls": "token"}[self.pooling]
        if self.drop_path_rate:
            options["drop_path_rate"] = self.drop_path_rate
        tower = create_tower(self.name, self.image_size, options, use_hub=origin == "hub")
        fill_tower(tower, self.name, origin, with_classifier=with_classifier)
        if self.num_layers is not None:
            keep_blocks(tower, self.num_layers, name=self.name)
        if self.inherit is not None and load_pretrained:
            self.inherit.fill(tower, TimmImageEncoderConfig, "image_encoder")
        shown = self.model_dump(include={"image_size", "resize", "crop_fraction", "interpolation"})
        shape = self.model_dump(include={"name", "architecture", "pooling", "joined_stages", "frozen_layers"})
        preprocess = preprocess_of(tower, self.normalization, shown)
        return TimmImageEncoder(tower, preprocess, **shape, second_look=self.second_look)


def _whole_strides(size: ImageSize) -> ImageSize:
    if any(side % 32 for side in height_and_width(size)):
        raise ValueError("Input should be a multiple of 32")
    return size


class ClipResNetEncoderConfig(Config):
    """A ResNet with a stem of three convolutions, averages in the place of strides, and attention for its pooling."""

    gives_tokens: ClassVar[bool] = False

    kind: Literal["clip_resnet"] = "clip_resnet"
    width: PositiveInt = 64
    """Channels behind the stem; the feature has 32 times as many. TinyCLIP has 56 and 44, CLIP's ResNet-50 64."""
    num_blocks: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (3, 4, 6, 3)
    """Of each stage."""
    pretrained: Literal["none"] = "none"
    """Weights come with the whole model: see `model.pretrained`."""
    image_size: Annotated[ImageSize, AfterValidator(_whole_strides)] = 224
    resize: Literal["squash", "crop"] = "crop"
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    normalization: Literal["clip", "imagenet", "half", "none"] = "clip"
    frozen_layers: NonNegativeInt = Field(default=0, le=5)
    """The stem and the first stages that stay as pretrained in training."""
    inherit: "InheritConfig[ClipResNetEncoderConfig] | None" = None
    """A larger tower to start from."""

    @property
    def name(self) -> str:
        """What the tower is, in a few words."""
        return f"CLIP ResNet {'-'.join(map(str, self.num_blocks))} of width {self.width}"

    def build(self, *, load_pretrained: bool = True) -> "ClipResNetEncoder":
        """Create the tower with random weights, or with a larger one's unless `load_pretrained` is False.

        Raises:
            UserError: the larger tower cannot be had, or does not fit.
        """
        from pocketclip.models.image.clip_resnet import ClipResNetEncoder
        from pocketclip.models.image.pixels import NORMALIZATIONS

        mean, std = NORMALIZATIONS[self.normalization]
        shown = self.model_dump(include={"image_size", "resize", "interpolation"})
        shape = self.model_dump(include={"width", "num_blocks", "frozen_layers"})
        encoder = ClipResNetEncoder(PreprocessConfig(**shown, mean=mean, std=std), **shape)
        if self.inherit is not None and load_pretrained:
            self.inherit.fill(encoder, ClipResNetEncoderConfig, "image_encoder")
        return encoder


ImageEncoderConfig = Annotated[TimmImageEncoderConfig | ClipResNetEncoderConfig, Field(discriminator="kind")]
"""The union of every family; its members are told apart by `kind`."""
