"""Any timm model, which knows images only: a self-supervised tower, or a classifier with its logits."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field

from pocketclip.asked.library import LibraryModelConfig
from pocketclip.errors import UserError, require
from pocketclip.image_size import ImageSize
from pocketclip.models.image.config import TimmImageEncoderConfig
from pocketclip.models.running.precision import Precision

if TYPE_CHECKING:
    import torch

    from pocketclip.asked.model import LibraryModel


class TimmModelConfig(LibraryModelConfig):
    """A timm model; a student gets its vectors as they are, not brought to length 1."""

    prefix: ClassVar[str] = "timm"
    paths: ClassVar[tuple[str, ...]] = ("pretrained",)
    library: ClassVar[str] = "timm"
    image_parts: ClassVar[tuple[str, ...]] = ("",)
    normalize: ClassVar[bool] = False

    kind: Literal["timm"] = "timm"
    name: str
    """timm's name, such as `beitv2_base_patch16_224`."""
    pretrained: str = "hub"
    """`hub`, `package` (a pip package carries the weights), `none`, or a weights file."""
    feature: Literal["cls", "average", "native", "logits"]
    """What it is asked for: the last layer's class token before the final norm, as S-SMKE takes it of BEiTv2; the
    average over the picture; what timm itself gives without the classifier; or the logits of its classes, as SHRe takes
    them of a supervised ResNet-50."""
    image_size: ImageSize = 224
    resize: Literal["squash", "crop"] = "crop"
    """Of a view that is not a random crop; take the student's, or the two see different parts of a picture."""
    crop_fraction: float = Field(default=1.0, gt=0, le=1, exclude_if=lambda share: share == 1)
    """Share of the picture's shorter side that is kept (timm's crop_pct)."""

    @classmethod
    def from_text(cls, text: str) -> Self:
        """`NAME`, or `NAME/WEIGHTS`; pictures are prepared as the model's own settings say."""
        name, _, pretrained = text.partition("/")
        settings: dict[str, Any] = {"name": name, "pretrained": pretrained or "hub", "feature": "native"}
        settings["crop_like"] = "torchvision"
        known = require("timm", extra="train").get_pretrained_cfg(name)
        if known is not None:  # an unknown name is an error of `build`, with the nearest ones
            data = require("timm.data").resolve_data_config(pretrained_cfg=known.to_dict())
            size = data["input_size"][1]
            settings["image_size"] = data["input_size"][1:]
            settings["resize"] = "squash" if data["crop_mode"] == "squash" else "crop"
            settings["crop_fraction"] = size / math.floor(size / data["crop_pct"])  # timm rounds down
        return cls.parse(settings, place=f"timm:{text}")

    @property
    def knows(self) -> frozenset[str]:
        return frozenset({"images", "classes"} if self.feature == "logits" else {"images"})

    def text(self) -> str:
        return f"{self.prefix}:{self.name}" + ("" if self.pretrained == "hub" else f"/{self.pretrained}")

    def build(self, device: "torch.device", precision: Precision = "auto", *, role: str = "Model") -> "LibraryModel":
        """Load it; also errors where it takes no pictures of such a size, or has no such feature."""
        from torch import nn

        from pocketclip.asked.model import LibraryModel

        tower = TimmImageEncoderConfig(
            name=self.name,
            pretrained=self.pretrained,
            image_size=self.image_size,
            resize=self.resize,
            crop_fraction=self.crop_fraction,
            pooling="native" if self.feature == "logits" else self.feature,
        )
        try:
            encoder = tower.build(with_classifier=self.feature == "logits")
        except UserError as error:
            raise UserError(f"{role} timm {self.name}: {str(error).removeprefix(f'{self.name}: ')}") from error
        if self.feature == "cls":
            encoder.tower.norm = nn.Identity()
        return LibraryModel(
            self,
            encoder,
            encoder,
            called=(self.name, "" if self.pretrained in ("hub", "package", "none") else Path(self.pretrained).stem),
            settings=[encoder.settings, self.feature],
            preprocess=encoder.preprocess.model_copy(update={"crop_like": self.crop_like}),
            device=device,
            precision=precision,
        )
