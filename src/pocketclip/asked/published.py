"""A published model from its weights: MobileCLIP, TinyCLIP or CLIP, as a bundle of ours."""

from pathlib import Path
from typing import Any

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.models.build import build_model
from pocketclip.models.config import DualEncoderConfig


def load_published(size: str, path: str | Path, *, tokenizer: str | None = None) -> PretrainedModel:
    """A published model, ready to embed pictures and texts or to be saved as a bundle.

    >>> model = pocketclip.load_published("mobileclip_s1", "mobileclip_s1.pt")
    >>> model.save_pretrained("bundles/mobileclip_s1")

    Args:
        size: one of `pocketclip list sizes`.
        path: its weights, `.pt`, `.bin` or `.safetensors`, in a form that `models/origin/published.py` names.
        tokenizer: in place of the size's own: a `tokenizer.json`, or byte pairs as CLIP publishes them.

    Raises:
        UserError: the size is unknown, the weights are another's, or the tokenizer cannot be had.
    """
    values: dict[str, Any] = {"size": size, "pretrained": str(path)}
    if tokenizer is not None:
        values["text_encoder"] = {"tokenizer": tokenizer}
    config = DualEncoderConfig.parse(values, place="load_published")
    words = config.text_encoder.build_tokenizer()
    model = build_model(config)
    return PretrainedModel(model, config, words, model.image_encoder.preprocess, name=size)
