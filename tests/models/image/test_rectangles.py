"""Towers of every kind take pictures of any height and width, and timm's own agree."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from pocketclip.cost.flops import count_macs
from pocketclip.errors import UserError
from pocketclip.models.image.config import ClipResNetEncoderConfig, TimmImageEncoderConfig
from pocketclip.models.running.reparam import fuse_image_tower

TALL = [96, 32]
TOWERS: dict[str, dict[str, Any]] = {
    "efficientnet": {"name": "test_efficientnet"},
    "mobilenet": {"name": "mobilenetv3_small_050"},
    "resnet": {"name": "test_resnet"},
    "joined stages": {"name": "test_efficientnet", "joined_stages": [-1, 1]},
    "convnext": {"name": "test_convnext"},
    "vit": {"name": "test_vit"},
    "vit of tokens": {"name": "test_vit", "pooling": "average"},
    "deit": {"name": "deit_tiny_patch16_224", "num_layers": 1},
    "eva": {"name": "eva02_tiny_patch14_224", "num_layers": 1, "image_size": [112, 42]},
    "beit": {"name": "beit_base_patch16_224", "architecture": {"depth": 1, "embed_dim": 24, "num_heads": 2}},
    "mixer": {
        "name": "mixer_s16_224",
        "architecture": {"patch_size": 16, "num_blocks": 1, "embed_dim": 16},
    },
    "swin": {
        "name": "swin_tiny_patch4_window7_224",
        "architecture": {"depths": [1, 1], "embed_dim": 24, "num_heads": [1, 2], "window_size": 4},
        "image_size": [64, 32],
    },
    "clip resnet": {"kind": "clip_resnet", "width": 8, "num_blocks": [1, 1, 1, 1]},
}


def build(settings: dict[str, Any], **changes: Any) -> Any:
    torch.manual_seed(0)
    values = {"pretrained": "none", "image_size": TALL, **settings, **changes}
    config: Any = ClipResNetEncoderConfig if settings.get("kind") == "clip_resnet" else TimmImageEncoderConfig
    return config.parse(values, place="image_encoder").build().eval()


def pictures(size: tuple[int, int], count: int = 2) -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=random)


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_every_kind_of_tower_takes_a_rectangle_and_sees_all_of_it(name: str) -> None:
    tower = build(TOWERS[name])
    size = tuple(TOWERS[name].get("image_size", TALL))
    assert tower.preprocess.image_size == tower.preprocess.shape == size
    images = pictures(size)
    features = tower(images)
    assert features.shape == (2, tower.feature_dim)
    corner = images.clone()
    corner[:, :, -8:] = 255 - corner[:, :, -8:]  # the last rows, which a square would cut away
    assert not torch.allclose(tower(corner), features)
    torch.testing.assert_close(fuse_image_tower(tower, images)(images), features, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["efficientnet", "vit", "clip resnet"])
def test_a_rectangle_costs_what_its_pixels_do(name: str) -> None:
    tall, square = build(TOWERS[name], image_size=[128, 32]), build(TOWERS[name], image_size=64)
    macs = [count_macs(lambda tower=tower: tower(pictures(tower.preprocess.shape, 1))) for tower in (tall, square)]
    assert macs[0] == pytest.approx(macs[1], rel=0.02)


@torch.no_grad()
def test_timms_own_vit_at_a_height_and_a_width_agrees(tmp_path: Path) -> None:
    torch.manual_seed(1)
    own = timm.create_model("test_vit", pretrained=False, img_size=tuple(TALL)).eval()
    save_file(own.state_dict(), tmp_path / "tall.safetensors")
    tower = build(TOWERS["vit"], pretrained=str(tmp_path / "tall.safetensors"))
    images = torch.randn(2, 3, *TALL, generator=torch.Generator().manual_seed(0))
    expected = own.forward_head(own.forward_features(images), pre_logits=True)
    torch.testing.assert_close(tower(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["test_vit", "vit_tiny_patch16_224", "deit_tiny_patch16_224"])
@torch.no_grad()
def test_weights_of_squares_are_resampled_as_timm_does(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    square = timm.create_model(name, pretrained=False, img_size=64).eval()
    save_file(square.state_dict(), tmp_path / "square.safetensors")
    tower = build({"name": name}, pretrained=str(tmp_path / "square.safetensors")).tower
    own = {"file": str(tmp_path / "square.safetensors")}
    expected = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=own, num_classes=0, img_size=tuple(TALL))
    for key, value in expected.state_dict().items():
        assert torch.equal(tower.state_dict()[key], value), key
    prefix = tower.num_prefix_tokens
    grid = resample_abs_pos_embed(square.pos_embed, new_size=[6, 2], num_prefix_tokens=prefix)
    assert torch.equal(tower.pos_embed, grid)


def test_positions_of_a_rectangle_are_not_taken_for_a_square(tmp_path: Path) -> None:
    tall = build(TOWERS["vit"], image_size=[96, 32])
    save_file(
        {key: value.contiguous() for key, value in tall.tower.state_dict().items()}, tmp_path / "tall.safetensors"
    )
    with pytest.raises(UserError, match=r"tall\.safetensors: its positions do not fit this image_size"):
        build(TOWERS["vit"], pretrained=str(tmp_path / "tall.safetensors"), image_size=64)


def test_nothing_is_inherited_across_grids() -> None:
    larger = {"name": "test_vit", "pretrained": "none", "image_size": 64}
    with pytest.raises(UserError, match=r"inherit: the positions form a grid, of \(8, 2\) here and of \(4, 4\) there"):
        build(TOWERS["vit"], image_size=[128, 32], inherit={"tower": larger})
    tall = {**larger, "image_size": [128, 32]}
    build(TOWERS["vit"], image_size=[128, 32], inherit={"tower": tall})
    build(TOWERS["efficientnet"], inherit={"tower": {"name": "test_efficientnet", "pretrained": "none"}})


@pytest.mark.parametrize("name", ["vit", "deit", "eva", "clip resnet", "efficientnet"])
@pytest.mark.parametrize(("old", "new"), [(112, [224, 56]), ([224, 112], 112), ([224, 56], 112)])
def test_weights_learned_at_one_size_go_to_another(name: str, old: Any, new: Any) -> None:
    if name == "clip resnet":
        old, new = ([32 * side // 56 for side in size] if isinstance(size, list) else 64 for size in (old, new))
    if name in ("vit", "deit"):
        old, new = ([8 * side // 7 for side in size] if isinstance(size, list) else 128 for size in (old, new))
    settings = {key: value for key, value in TOWERS[name].items() if key != "image_size"}
    before, after = build(settings, image_size=old), build(settings, image_size=new)
    moved = after.resampled(before.state_dict(), before.preprocess.image_size)
    after.load_state_dict(moved)
    same = build(settings, image_size=old).resampled(before.state_dict(), before.preprocess.image_size)
    assert all(torch.equal(same[key], value) for key, value in before.state_dict().items())
    changed = [key for key, value in before.state_dict().items() if not torch.equal(moved[key], value)]
    assert len(changed) == (name != "efficientnet")
    if name == "vit":
        prefix = before.tower.num_prefix_tokens
        grids = [list(tower.tower.patch_embed.grid_size) for tower in (before, after)]
        there, here = (
            tower.tower.pos_embed[0, prefix:].unflatten(0, tuple(grid)).permute(2, 0, 1)[None]
            for tower, grid in zip((before, after), grids, strict=True)
        )
        slow = torch.nn.functional.interpolate(there, grids[1], mode="bicubic", antialias=True)
        torch.testing.assert_close(here, slow)
