"""What timm's ViTs (ViT, DeiT, EVA) can see less of in training: a part of the patches, smaller pictures."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from pocketclip.errors import UserError, require


def _is_vit(tower: Any) -> bool:
    models = require("timm.models", extra="train")
    return isinstance(tower, (models.VisionTransformer, models.Eva)) and hasattr(tower.patch_embed, "strict_img_size")


@contextmanager
def on_patches(tower: Any, share: float, *, name: str) -> Iterator[None]:
    """Within, a tower in training mode drops all but a share of the patches of each image before its first block.

    Which ones, torch's generator draws, so a checkpoint's random state gives the same ones again. Class and register
    tokens stay. Reference: FLIP, https://arxiv.org/abs/2212.00794.

    Raises:
        UserError: the tower is none whose blocks take any number of patches.
    """
    if not _is_vit(tower):
        raise UserError(
            f"keep_patches: {name} needs all places of its map, so none can be dropped; take a ViT, DeiT or EVA of "
            "timm, or leave keep_patches out."
        )
    layers, before = require("timm.layers", extra="train"), tower.patch_drop
    # EVA asks which places stayed, to rotate them
    with_places = before is None or isinstance(before, layers.PatchDropoutWithIndices)
    kind: type[nn.Module] = layers.PatchDropoutWithIndices if with_places else layers.PatchDropout
    share += 1e-9  # timm rounds down: 0.1 of 100 patches would be 9
    tower.patch_drop = kind(1 - share, num_prefix_tokens=tower.num_prefix_tokens).train(tower.training)
    try:
        yield
    finally:
        tower.patch_drop = before


@contextmanager
def at_any_size(tower: Any) -> Iterator[None]:
    """Within, a ViT takes pictures of any size that its patches divide, its position embeddings resampled as they pass.

    The embeddings themselves stay those of its own size, and learn through the resampling, so stages at several sizes
    train one model. Positions that are rotations, of EVA-02 and its kin, were made for one size, which they keep.
    """
    if not _is_vit(tower) or tower.dynamic_img_size or getattr(tower, "rope", None) is not None:
        yield
        return
    layers, patches = require("timm.layers", extra="train"), tower.patch_embed
    before = patches.strict_img_size, patches.flatten, patches.output_fmt
    tower.dynamic_img_size = True
    patches.strict_img_size, patches.flatten, patches.output_fmt = False, False, layers.Format.NHWC
    try:
        yield
    finally:
        tower.dynamic_img_size = False
        patches.strict_img_size, patches.flatten, patches.output_fmt = before
