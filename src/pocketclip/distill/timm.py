"""Any timm model as a teacher of images: a self-supervised tower, or a classifier with its logits."""

from pathlib import Path
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import nn

from pocketclip.config import Config, digest
from pocketclip.data.source import safe_key
from pocketclip.distill.teacher import Teacher, in_precision
from pocketclip.errors import UserError
from pocketclip.models.image import TimmImageEncoderConfig
from pocketclip.models.inference import cast_weights, module_fingerprint
from pocketclip.models.precision import Precision, resolve_precision

POOLINGS: dict[str, Literal["cls", "average", "native"]] = {"cls": "cls", "average": "average", "logits": "native"}


class TimmTeacherConfig(Config):
    """A timm model, which knows images only; its vectors come as they are, not brought to length 1."""

    kind: Literal["timm"] = "timm"
    name: str
    """timm's name, such as `beitv2_base_patch16_224`."""
    pretrained: str = "hub"
    """`hub`, `package` (a pip package carries the weights), `none`, or a weights file."""
    feature: Literal["cls", "average", "logits"]
    """What it is asked for: the last layer's class token before the final norm, as S-SMKE takes it of BEiTv2; the
    average over the picture; or the logits of its classes, as SHRe takes them of a supervised ResNet-50."""
    image_size: PositiveInt = 224
    resize: Literal["squash", "crop"] = "crop"
    """Of a view that is not a random crop; take the student's, or the two see different parts of a picture."""

    def build(self, device: torch.device, precision: Precision = "auto") -> Teacher:
        """Load it.

        Raises:
            UserError: no such model, its weights cannot be had, it takes no such size, or it has no such feature.
        """
        tower = TimmImageEncoderConfig(
            name=self.name,
            pretrained=self.pretrained,
            image_size=self.image_size,
            resize=self.resize,
            pooling=POOLINGS[self.feature],
        )
        try:
            encoder = tower.build(with_classifier=self.feature == "logits")
        except UserError as error:
            raise UserError(f"Teacher timm {self.name}: {str(error).removeprefix(f'{self.name}: ')}") from error
        if self.feature == "cls":
            encoder.tower.norm = nn.Identity()
        encoder = encoder.to(device).eval().requires_grad_(False)
        preprocess = encoder.preprocess
        shaping = [encoder.settings, self.feature, preprocess.model_dump(mode="json")]
        fingerprint = module_fingerprint(encoder, digest(shaping))
        if resolve_precision(precision, device) == "bfloat16":
            cast_weights(encoder)
        weights = "" if self.pretrained in ("hub", "package", "none") else Path(self.pretrained).stem
        return Teacher(
            name=safe_key("-".join(filter(None, (self.name, weights)))),
            kind=self.kind,
            width=encoder.feature_dim,
            scale=1.0,  # it was not trained by cosines, and so has no temperature
            preprocess=preprocess,
            fingerprint=fingerprint,
            device=device,
            embed_images=in_precision(encoder, precision, device),
            normalize=False,
        )
