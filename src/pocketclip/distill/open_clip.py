"""A model of the open_clip package as a teacher, such as the two of MobileCLIP's published recipe."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pocketclip.config import Config, digest
from pocketclip.data.source import safe_key
from pocketclip.distill.teacher import Scale, Teacher, Tokens, in_precision, measured_width, normalized
from pocketclip.errors import UserError, first_line, require, unknown_choice
from pocketclip.models.inference import cast_weights, module_fingerprint
from pocketclip.models.precision import Precision, resolve_precision
from pocketclip.preprocess import PreprocessConfig


class OpenClipTeacherConfig(Config):
    """An architecture of open_clip with its weights; needs `pip install open-clip-torch`."""

    kind: Literal["open_clip"] = "open_clip"
    name: str
    """Such as `ViT-L-14`, `hf-hub:OWNER/NAME` or `local-dir:FOLDER`."""
    pretrained: str | None
    """A tag such as `datacomp_xl_s13b_b90k`, or a checkpoint file; None where the name brings the weights."""
    scale: Scale = "own"

    def build(self, device: torch.device, precision: Precision = "auto") -> Teacher:
        """Load it.

        Raises:
            UserError: open_clip is not installed, or does not have such a model, or the weights cannot be had.
        """
        open_clip = require("open_clip", package="open-clip-torch")
        self._check(open_clip)
        place = f"open_clip {self.name}, {self.pretrained}"
        try:
            model = open_clip.create_model(self.name, pretrained=self.pretrained, require_pretrained=True)
            tokenizer = open_clip.get_tokenizer(self.name)
        except Exception as error:  # offline, other keys in the file, no pickled code allowed: a dozen types
            raise UserError(f"Teacher {place}: cannot be loaded ({first_line(error)}).") from error
        model = model.to(device).eval()
        settings = open_clip.get_model_preprocess_cfg(model)
        preprocess = _preprocess(settings, f"Teacher {place}")

        def images(pixels: Tensor) -> Tensor:
            found: Tensor = model.encode_image(normalized(pixels, preprocess))
            return found

        def texts(tokens: Tensor, mask: Tensor) -> Tensor:
            del mask  # the towers find the ends of texts by their ids
            found: Tensor = model.encode_text(tokens)
            return found

        fingerprint = module_fingerprint(model, digest([self.name, preprocess.model_dump(mode="json")]))
        if resolve_precision(precision, device) == "bfloat16":
            cast_weights(model)
        weights = Path(self.pretrained).stem if self.pretrained else ""
        embed_images = in_precision(images, precision, device)
        return Teacher(
            name=safe_key("-".join(filter(None, (self.name, weights)))),
            kind=self.kind,
            width=measured_width(embed_images, preprocess, device),
            scale=float(model.logit_scale.detach().exp()) if self.scale == "own" else self.scale,
            preprocess=preprocess,
            fingerprint=fingerprint,
            device=device,
            tokenize=_Tokenize(tokenizer),
            embed_images=embed_images,
            embed_tokens=in_precision(texts, precision, device),
        )

    def _check(self, open_clip: Any) -> None:
        """Names and tags that open_clip does not know, with the nearest that it does."""
        if ":" in self.name:
            return
        if self.name not in open_clip.list_models():
            raise unknown_choice("open_clip model", self.name, open_clip.list_models())
        tags = open_clip.list_pretrained_tags_by_model(self.name)
        if self.pretrained is None:
            raise UserError(f"Teacher open_clip {self.name}: give pretrained a tag ({', '.join(tags)}) or a file.")
        if self.pretrained not in tags and not Path(self.pretrained).is_file():
            raise unknown_choice(f"file or pretrained tag of open_clip's {self.name}", self.pretrained, tags)


class _Tokenize:
    """open_clip's tokenizer with the mask that ours gives; it can be sent to another process."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, texts: Sequence[str]) -> Tokens:
        tokens = self.tokenizer(list(texts)).numpy().astype(np.int64)
        return tokens, tokens != 0


def _preprocess(settings: dict[str, Any], place: str) -> PreprocessConfig:
    """open_clip's settings in our words."""
    size = settings["size"]
    width, height = (size, size) if isinstance(size, int) else (size[1], size[0])
    resize = {"shortest": "crop", "squash": "squash"}.get(settings.get("resize_mode", "shortest"))
    if width != height or resize is None:
        raise UserError(
            f"Teacher {place}: takes pictures of {width} x {height}, {settings}; only squares are made here."
        )
    values = {"image_size": width, "resize": resize, "interpolation": settings.get("interpolation") or "bicubic"}
    return PreprocessConfig.parse(
        {**values, "mean": settings["mean"], "std": settings["std"]}, place=f"Teacher {place}"
    )
