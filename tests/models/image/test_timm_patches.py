"""What ViTs see less of in training: patches that are dropped, and pictures of other sizes."""

import copy

import pytest
import torch
from torch import Tensor

from pocketclip.errors import UserError
from pocketclip.models.image.config import ClipResNetEncoderConfig, TimmImageEncoderConfig
from pocketclip.models.image.timm import TimmImageEncoder
from pocketclip.models.tower import CachedTower

VITS = ["test_vit", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "eva02_tiny_patch14_224"]


def tower(name: str, **settings: object) -> TimmImageEncoder:
    torch.manual_seed(0)
    size = 56 if "patch14" in name else 64
    values = {"name": name, "pretrained": "none", "image_size": size, **settings}
    return TimmImageEncoderConfig.parse(values, place="test").build()


def pixels(size: int, count: int = 2) -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=random)


def tokens_seen(encoder: TimmImageEncoder, images: Tensor) -> int:
    """Tokens that come to the first block."""
    seen = []
    hook = encoder.tower.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    encoder(images)
    hook.remove()
    return int(seen[0])


@pytest.mark.parametrize("name", VITS)
@pytest.mark.parametrize("share", [0.5, 0.25])
def test_only_a_share_of_the_patches_reaches_the_blocks_and_only_in_training(name: str, share: float) -> None:
    encoder = tower(name)
    prefix, images = encoder.tower.num_prefix_tokens, pixels(encoder.preprocess.image_size)
    patches = encoder.tower.patch_embed.num_patches
    before = encoder.eval()(images)
    with encoder.on_patches(share):
        assert tokens_seen(encoder.train(), images) == prefix + int(share * patches)
        assert torch.equal(encoder.eval()(images), before)
    assert tokens_seen(encoder.train(), images) == prefix + patches


@pytest.mark.parametrize(("share", "kept"), [(0.1, 10), (0.3, 30), (0.7, 70), (0.01, 1), (0.999, 99)])
def test_the_number_of_patches_is_what_the_share_says(share: float, kept: int) -> None:
    encoder = tower("vit_tiny_patch16_224", image_size=160, num_layers=1)
    with encoder.on_patches(share):
        assert tokens_seen(encoder.train(), pixels(160)) == 1 + kept


def test_which_patches_stay_depends_on_torchs_generator_alone() -> None:
    encoder = tower("test_vit").train()
    images = pixels(64)
    with encoder.on_patches(0.5):
        torch.manual_seed(3)
        first, state = encoder(images), torch.get_rng_state()
        second = encoder(images)
        torch.manual_seed(3)
        assert torch.equal(encoder(images), first)
        torch.set_rng_state(state)
        assert torch.equal(encoder(images), second)
    assert not torch.equal(first, second)


def test_it_is_the_tower_over_those_patches_alone() -> None:
    """The reference: every token embedded, some gathered, the blocks run on those."""
    encoder = tower("vit_tiny_patch16_224", num_layers=2).train()
    images, inner = pixels(64), encoder.tower
    with encoder.on_patches(0.5):
        torch.manual_seed(5)
        actual = encoder(images)
    torch.manual_seed(5)
    kept = torch.randn(2, 16).argsort(dim=-1)[:, :8]
    tokens = inner._pos_embed(inner.patch_embed(encoder.normalise(images)))
    chosen = torch.stack([torch.cat([row[:1], row[1:][places]]) for row, places in zip(tokens, kept, strict=True)])
    expected = inner.forward_head(inner.norm(inner.blocks(inner.norm_pre(chosen))))
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    "name", ["test_efficientnet", "test_convnext", "mixer_s32_224", "swin_tiny_patch4_window7_224"]
)
def test_towers_without_patches_to_drop_are_refused(name: str) -> None:
    encoder = tower(name, image_size=224 if "224" in name else 64)
    with (
        pytest.raises(UserError, match=rf"keep_patches: {name} needs all places of its map.*take a ViT"),
        encoder.on_patches(0.5),
    ):
        pass


def test_so_are_towers_of_other_families() -> None:
    encoder = ClipResNetEncoderConfig(width=8, num_blocks=(1, 1, 1, 1), image_size=64).build()
    for one in (encoder, CachedTower()):
        with pytest.raises(UserError, match="has no patches to drop; take a ViT of timm"):
            one.on_patches(0.5)


@pytest.mark.parametrize("name", VITS[:3])
def test_other_sizes_pass_while_it_lasts_and_nothing_stays(name: str) -> None:
    encoder = tower(name).eval()
    own, patch = encoder.preprocess.image_size, encoder.tower.patch_embed.patch_size[0]
    before, names = encoder(pixels(own)), list(encoder.state_dict())
    with encoder.at_any_size():
        for size in (patch, 2 * patch, 2 * own):
            assert encoder(pixels(size)).shape == before.shape
        torch.testing.assert_close(encoder(pixels(own)), before)
    assert torch.equal(encoder(pixels(own)), before)
    assert list(encoder.state_dict()) == names


def test_its_own_positions_learn_from_smaller_pictures() -> None:
    encoder = tower("vit_tiny_patch16_224", num_layers=1).train()
    with encoder.at_any_size(), encoder.on_patches(0.5):
        encoder(pixels(32)).square().sum().backward()
    gradient = encoder.tower.pos_embed.grad
    assert gradient.shape == encoder.tower.pos_embed.shape
    assert (gradient.abs().sum(dim=2) > 0).sum() > 5


def test_a_smaller_picture_sees_the_positions_resampled() -> None:
    encoder = tower("vit_tiny_patch16_224", num_layers=1).eval()
    small = tower("vit_tiny_patch16_224", num_layers=1, image_size=32).eval()
    weights = copy.deepcopy(encoder.tower.state_dict())
    grid = weights["pos_embed"][:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, (2, 2), mode="bicubic", antialias=True)
    weights["pos_embed"] = torch.cat([weights["pos_embed"][:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
    small.tower.load_state_dict(weights)
    with encoder.at_any_size():
        torch.testing.assert_close(encoder(pixels(32)), small(pixels(32)))
