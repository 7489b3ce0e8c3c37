"""A bundle of ours as a teacher."""

from pathlib import Path
from typing import Literal

import torch

from pocketclip.config import Config, digest
from pocketclip.data.source import safe_key
from pocketclip.distill.teacher import Scale, Teacher
from pocketclip.models.inference import module_fingerprint
from pocketclip.models.precision import Precision
from pocketclip.models.pretrained import PretrainedModel


class BundleTeacherConfig(Config):
    """A bundle, a run folder, or a bundle's name on the Hugging Face hub."""

    kind: Literal["bundle"] = "bundle"
    path: str
    scale: Scale = "own"

    def build(self, device: torch.device, precision: Precision = "auto") -> Teacher:
        """Load it.

        Raises:
            UserError: it is not there or not complete.
        """
        model = PretrainedModel.from_pretrained(self.path).to(str(device), precision=precision)
        runner = model.runner
        shaping = [
            model.config.model_dump(mode="json"),
            digest(model.tokenizer.to_json()),
            model.tokenizer.context_length,
            model.preprocess.model_dump(mode="json"),
        ]
        path = Path(self.path)
        return Teacher(
            name=safe_key(path.parent.name if path.name == "bundle" else path.name),
            kind=self.kind,
            width=model.config.embed_dim,
            scale=model.model.logit_scale.exp().item() if self.scale == "own" else self.scale,
            preprocess=model.preprocess,
            fingerprint=module_fingerprint(model.model, digest(shaping)),
            device=runner.device,
            tokenize=model.tokenizer.encode,
            embed_images=runner.embed_images,
            embed_tokens=runner.embed_tokens,
        )
