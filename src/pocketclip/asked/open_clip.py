"""A model of the open_clip package, such as the two teachers of MobileCLIP's published recipe."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from pocketclip.asked.library import LibraryModelConfig, LibraryTokenizer, Scale, loading
from pocketclip.embedder import Ids, Mask
from pocketclip.errors import UserError, require, unknown_choice
from pocketclip.models.running.precision import Precision
from pocketclip.preprocess import PreprocessConfig

if TYPE_CHECKING:
    import torch

    from pocketclip.asked.model import LibraryModel

LOCAL = "local-dir:"


class OpenClipModelConfig(LibraryModelConfig):
    """An architecture of open_clip with its weights; needs `pip install open-clip-torch`."""

    prefix: ClassVar[str] = "open_clip"
    paths: ClassVar[tuple[str, ...]] = ("pretrained",)
    library: ClassVar[str] = "open_clip_torch"
    image_parts: ClassVar[tuple[str, ...]] = ("visual.",)

    kind: Literal["open_clip"] = "open_clip"
    name: str
    """Such as `ViT-L-14`, `hf-hub:OWNER/NAME` or `local-dir:FOLDER`."""
    pretrained: str | None
    """A tag such as `datacomp_xl_s13b_b90k`, or a checkpoint file; None where the name brings the weights."""
    scale: Scale = "own"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """`NAME/TAG`, `NAME/FILE`, `hf-hub:OWNER/NAME` or `local-dir:FOLDER`."""
        brings_weights = text.startswith(("hf-hub:", LOCAL))
        name, _, pretrained = (text, "", "") if brings_weights else text.partition("/")
        return cls(name=name, pretrained=pretrained or None, crop_like="torchvision")

    def text(self) -> str:
        return f"{self.prefix}:{'/'.join(filter(None, (self.name, self.pretrained)))}"

    def lasting_text(self) -> str:
        if not self.name.startswith(LOCAL):
            return super().lasting_text()
        return f"{self.prefix}:{LOCAL}{Path(self.name.removeprefix(LOCAL)).absolute()}"

    def build(self, device: "torch.device", precision: Precision = "auto", *, role: str = "Model") -> "LibraryModel":
        from pocketclip.asked.model import LibraryModel, normalized

        open_clip = require("open_clip", package="open-clip-torch")
        self._check(open_clip, role)
        place = f"{role} open_clip {self.name}, {self.pretrained}"
        with loading(place):
            model = open_clip.create_model(self.name, pretrained=self.pretrained, require_pretrained=True)
            tokenizer = open_clip.get_tokenizer(self.name)
        preprocess = _preprocess(open_clip.get_model_preprocess_cfg(model), place)
        preprocess = preprocess.model_copy(update={"crop_like": self.crop_like})
        return LibraryModel(
            self,
            model,
            lambda images: model.encode_image(normalized(images, preprocess)),
            lambda tokens, mask: model.encode_text(tokens),  # it finds the ends of texts by their ids
            called=(self.name, Path(self.pretrained or "").stem),
            settings=[self.name],
            preprocess=preprocess,
            tokenizer=OpenClipTokenizer(tokenizer, tokenizer.context_length, is_whole=True),  # all positions are added
            scale=self.scale,
            device=device,
            precision=precision,
        )

    def _check(self, open_clip: Any, role: str) -> None:
        """Names and tags that open_clip does not know, with the nearest that it does."""
        if ":" in self.name:
            return
        if self.name not in open_clip.list_models():
            raise unknown_choice("open_clip model", self.name, open_clip.list_models())
        tags = open_clip.list_pretrained_tags_by_model(self.name)
        if self.pretrained is None:
            raise UserError(f"{role} open_clip {self.name}: give pretrained a tag ({', '.join(tags)}) or a file.")
        if self.pretrained not in tags and not Path(self.pretrained).is_file():
            raise unknown_choice(f"file or pretrained tag of open_clip's {self.name}", self.pretrained, tags)


class OpenClipTokenizer(LibraryTokenizer):
    """open_clip's tokenizer of a model."""

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Mask]:
        tokens = self.tokenizer(list(texts)).numpy().astype(np.int64)
        return tokens, np.ones_like(tokens, dtype=np.bool_)

    def vocabulary(self) -> dict[str, int]:
        inner = getattr(self.tokenizer, "tokenizer", None)  # one of transformers
        return dict(self.tokenizer.encoder if inner is None else inner.get_vocab())


def _preprocess(settings: dict[str, Any], place: str) -> PreprocessConfig:
    """open_clip's settings in our words."""
    size = settings["size"]
    width, height = (size, size) if isinstance(size, int) else (size[1], size[0])
    resize = {"shortest": "crop", "squash": "squash"}.get(settings.get("resize_mode", "shortest"))
    if resize is None or (width != height and resize == "crop"):
        raise UserError(
            f"{place}: takes pictures of {width} x {height}, {settings}; only squares are cut from pictures here."
        )
    values = {
        "image_size": (height, width),
        "resize": resize,
        "interpolation": settings.get("interpolation") or "bicubic",
    }
    return PreprocessConfig.parse({**values, "mean": settings["mean"], "std": settings["std"]}, place=place)
