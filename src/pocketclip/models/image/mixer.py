"""timm's MLP-Mixers with another width, depth or patch: their names take no other value of what they say themselves."""

from collections.abc import Mapping
from typing import Any

import torch

from pocketclip.errors import require
from pocketclip.image_size import ImageSize

SAID = {"patch_size", "num_blocks", "embed_dim"}
"""By a name."""


def is_another_mixer(name: str, options: Mapping[str, Any]) -> bool:
    """Whether this is a mixer (https://arxiv.org/abs/2105.01601, not its kin) other than its name says."""
    return name.startswith("mixer_") and not SAID.isdisjoint(options)


def create_mixer(name: str, image_size: ImageSize, options: Mapping[str, Any]) -> Any:
    """A mixer with random weights; what the options leave out is the name's own."""
    timm, module = require("timm", extra="train"), require("timm.models.mlp_mixer", extra="train")
    with torch.device("meta"):
        own = timm.create_model(name)
    shape = {"patch_size": own.stem.patch_size[0], "num_blocks": len(own.blocks), "embed_dim": own.embed_dim}
    tower = module.MlpMixer(img_size=image_size, **{**shape, **options})
    tower.pretrained_cfg = tower.default_cfg = own.pretrained_cfg
    return tower
