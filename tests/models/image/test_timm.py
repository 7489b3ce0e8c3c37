"""timm towers: what goes in, what comes out, what stays frozen, and names that timm does not know."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from conftest import normalize_pixels
from pocketclip.data.sources.openmoji import OpenmojiSourceConfig
from pocketclip.errors import UserError
from pocketclip.models.image.config import TimmImageEncoderConfig
from pocketclip.models.image.timm import TimmImageEncoder
from pocketclip.models.origin.packages import IMAGE_PACKAGES
from pocketclip.models.origin.weights import read_state_dict
from pocketclip.preprocess import decode_image, resize_image

SMALL = "mobilenetv3_small_050"


def build(name: str = "test_efficientnet", **settings: object) -> TimmImageEncoder:
    torch.manual_seed(0)
    config = {"name": name, "pretrained": "none", "image_size": 32, **settings}
    return TimmImageEncoderConfig.parse(config, place="image_encoder").build().eval()


def pictures(count: int = 2, size: int = 32) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [SMALL, "test_efficientnet", "test_convnext", "test_vit", "test_resnet"])
def test_features_are_those_of_timms_own_model_without_its_classifier(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    own = timm.create_model(name, pretrained=False, **({"img_size": 32} if "vit" in name else {})).eval()
    save_file(own.state_dict(), tmp_path / "weights.safetensors")
    encoder = build(name, pretrained=str(tmp_path / "weights.safetensors"))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = own.forward_head(own.forward_features(images), pre_logits=True)
        torch.testing.assert_close(encoder(images), expected, rtol=1e-4, atol=1e-5)
    assert encoder.feature_dim == expected.shape[1]


@pytest.mark.parametrize("normalization", ["native", "imagenet"])
def test_bytes_are_normalised_as_the_preprocessing_says(normalization: str) -> None:
    encoder = build("tf_efficientnet_lite0", normalization=normalization)
    images = pictures()
    by_hand = torch.from_numpy(normalize_pixels(images.permute(0, 2, 3, 1).numpy(), encoder.preprocess))
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), encoder(by_hand), rtol=1e-3, atol=1e-5)


def test_preprocessing_is_that_of_timms_configuration() -> None:
    known = timm.get_pretrained_cfg("tf_efficientnet_lite0")
    preprocess = build("tf_efficientnet_lite0", image_size=64, resize="squash").preprocess
    assert (preprocess.mean, preprocess.std) == (known.mean, known.std) == ((0.5,) * 3, (0.5,) * 3)
    assert (preprocess.image_size, preprocess.resize, preprocess.crop_fraction) == (64, "squash", 1.0)
    assert preprocess.interpolation == known.interpolation == "bicubic"


def test_imagenets_normalisation_can_be_had_for_every_tower() -> None:
    preprocess = build("tf_efficientnet_lite0", normalization="imagenet", crop_fraction=0.875).preprocess
    assert preprocess.mean == pytest.approx((0.485, 0.456, 0.406))
    assert preprocess.std == pytest.approx((0.229, 0.224, 0.225))
    assert preprocess.crop_fraction == 0.875


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet"])
def test_joined_stages_are_the_averages_of_timms_feature_maps(name: str) -> None:
    encoder = build(name, joined_stages=(-1, 1))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        joined = encoder(images)
        maps = encoder.tower.forward_intermediates(images, intermediates_only=True)
        slow = []
        for stage in (1, len(maps) - 1):
            _, channels, height, width = maps[stage].shape
            total = torch.zeros(2, channels)
            for row in range(height):
                for column in range(width):
                    total += maps[stage][:, :, row, column]
            slow.append(total / (height * width))
        final = encoder.tower(images)
    torch.testing.assert_close(joined, torch.cat([*slow, final], dim=1), rtol=1e-4, atol=1e-5)
    assert encoder.feature_dim == joined.shape[1]


def test_joined_stages_only_add_to_the_feature() -> None:
    plain, joined = build(), build(joined_stages=(0, 1, 2, 3, 4))
    joined.load_state_dict(plain.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(joined(pictures())[:, -plain.feature_dim :], plain(pictures()))


@pytest.mark.parametrize("stages", [(5,), (-6,), (0, 9)])
def test_a_stage_that_is_not_there_names_the_known_ones(stages: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"joined_stages: this tower has stages 0 to 4 \(got \("):
        build(joined_stages=stages)


@pytest.mark.parametrize("count", [1, 3])
def test_frozen_layers_are_the_leading_ones(count: int) -> None:
    encoder = build(frozen_layers=count)
    frozen = {id(value) for value in encoder.frozen_parameters}
    names = [name for name, value in encoder.tower.named_parameters() if id(value) in frozen]
    expected = ("conv_stem.", "bn1.", *(f"blocks.{number}." for number in range(count - 1)))
    assert names == [name for name, _ in encoder.tower.named_parameters() if name.startswith(expected)]


def test_frozen_batch_norms_stay_as_they_are_in_training() -> None:
    encoder = build(frozen_layers=3).train()
    before = {name: value.clone() for name, value in encoder.tower.named_buffers()}
    encoder(pictures(4))
    changed = {name for name, value in encoder.tower.named_buffers() if not torch.equal(value, before[name])}
    assert not {name for name in changed if name.startswith(("bn1.", "blocks.0.", "blocks.1."))}
    assert {name.split(".")[1] for name in changed if name.startswith("blocks.")} == {"2", "3", "4"}


def block_outputs(encoder: TimmImageEncoder, block: int) -> Tensor:
    seen: list[Tensor] = []
    handle = encoder.tower.blocks[block].register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        encoder(pictures(8))
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(
    "drop_path_rate",
    [
        0.0,
        0.5,
    ],
)
def test_frozen_layers_behave_as_in_inference(drop_path_rate: float) -> None:
    encoder = build(SMALL, frozen_layers=5, drop_path_rate=drop_path_rate)
    expected = block_outputs(encoder.eval(), 3)
    torch.testing.assert_close(block_outputs(encoder.train(), 3), expected, rtol=1e-4, atol=1e-5)


def test_evaluation_mode_comes_back_whole() -> None:
    encoder = build(frozen_layers=2).train().eval()
    assert not any(module.training for module in encoder.modules())


@pytest.mark.parametrize("count", [6, 99])
def test_freezing_every_layer_is_an_error_that_counts_them(count: int) -> None:
    with pytest.raises(UserError, match=rf"frozen_layers: this tower has 6 groups of layers \(got {count}\)"):
        build(frozen_layers=count)


def test_drop_path_makes_training_random_and_leaves_inference() -> None:
    encoder = build("test_vit", drop_path_rate=0.5)
    images = pictures(8)
    assert torch.equal(encoder(images), encoder(images))
    encoder.train()
    assert not torch.equal(encoder(images), encoder(images))


@pytest.mark.parametrize("size", [32, 64])
def test_a_vision_transformer_takes_the_size_it_was_built_for(size: int) -> None:
    encoder = build("test_vit", image_size=size)
    assert encoder(pictures(2, size)).shape == (2, encoder.feature_dim)


def test_pooling_chooses_the_class_token_or_the_average() -> None:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for pooling in ("cls", "average"):
        encoder = build("xcit_nano_12_p16_224", pooling=pooling)
        with torch.no_grad():
            tokens = encoder.tower.forward_features(images)
            expected = tokens[:, 0] if pooling == "cls" else tokens[:, 1:].mean(dim=1)
            torch.testing.assert_close(encoder(images), expected)


def test_a_tower_without_a_class_token_cannot_pool_it() -> None:
    with pytest.raises(UserError, match=rf"{SMALL}: cannot be built at 32 px with .*token"):
        build(SMALL, pooling="cls")


def test_a_picture_too_small_for_a_tower_names_the_setting() -> None:
    with pytest.raises(UserError, match=r"image_size: this tower takes no pictures of 16 px"):
        build("inception_v3", image_size=16)


def test_depthwise_towers_train_in_float32_on_a_cpu() -> None:
    encoder = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert encoder(pictures()).dtype == torch.bfloat16
        assert encoder.train()(pictures()).dtype == torch.float32


def test_building_leaves_the_tower_in_training_mode_as_torch_does() -> None:
    encoder = TimmImageEncoderConfig(name="test_resnet", pretrained="none", image_size=32).build()
    assert encoder.training
    assert encoder.tower.training


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("mobilenetv3_smal_050", SMALL),
        ("vit_tiny_patch16_225", "vit_tiny_patch16_224"),
        ("resnt50", "resnet50"),
    ],
)
def test_an_unknown_name_gets_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UserError, match=rf"Unknown timm image tower '{name}'\. Did you mean '{nearest}'\?"):
        build(name)


def test_a_weights_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.safetensors: no such weights file"):
        build(pretrained=str(tmp_path / "none.safetensors"))


def test_weights_of_another_tower_are_refused(tmp_path: Path) -> None:
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "resnet.safetensors")
    with pytest.raises(UserError, match=r"resnet\.safetensors: the weights do not fit this tower; the file lacks"):
        build(pretrained=str(tmp_path / "resnet.safetensors"))


def test_no_weights_are_read_for_a_bundle_that_brings_its_own() -> None:
    config = TimmImageEncoderConfig(name="test_resnet", pretrained="/no/such/file.pth", image_size=32)
    assert config.build(load_pretrained=False).feature_dim > 0


def test_the_packaged_tower_names_drawn_objects_with_its_own_classifier() -> None:
    """Every weight is in its place: the right class of ImageNet's 1000 comes out near the top."""
    classes = {"soccer ball": 805, "screwdriver": 784, "umbrella": 879, "violin": 889, "basketball": 430}
    encoder = build("tf_efficientnet_lite0", pretrained="package", image_size=224)
    source = OpenmojiSourceConfig().open()
    found = {source.captions(index)[0]: index for index in range(len(source))}
    drawings = [decode_image(source[found[name]].image, place=name) for name in classes]
    pixels = np.stack([resize_image(drawing, encoder.preprocess) for drawing in drawings])
    weights = read_state_dict(IMAGE_PACKAGES["tf_efficientnet_lite0"].path())
    with torch.no_grad():
        features = encoder(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    logits = features @ weights["_fc.weight"].T + weights["_fc.bias"]
    right = logits.gather(1, torch.tensor(list(classes.values()))[:, None])
    assert (logits > right).sum(1).max() < 10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_vit", "beit_base_patch16_224", "vit_tiny_patch16_dinov3_qkvb"])
def test_the_first_blocks_alone_give_the_tokens_of_the_whole_towers_block(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    own = timm.create_model(name, pretrained=False, img_size=32).eval()
    save_file(own.state_dict(), tmp_path / "weights.safetensors")
    encoder = build(name, pretrained=str(tmp_path / "weights.safetensors"), num_layers=2)
    encoder.give_tokens()
    images, found = torch.randn(2, 3, 32, 32), []
    own.blocks[1].register_forward_hook(lambda module, inputs, output: found.append(output))
    with torch.no_grad():
        own.forward_features(images)
        torch.testing.assert_close(encoder.eval()(images), found[0], rtol=1e-4, atol=1e-5)
    assert len(encoder.tower.blocks) == 2
    assert not [name for name in encoder.state_dict() if "norm." in name and "blocks" not in name]


NARROW = {  # of every family of the scaling study, small enough to train a step
    "vit_base_patch16_224": {"embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 8},
    "vit_base_patch32_224": {"embed_dim": 24, "depth": 1, "num_heads": 2, "class_token": False, "mlp_ratio": 2.0},
    "resnet50": {"layers": (1, 1, 1, 1), "channels": (8, 8, 16, 16)},
    "mixer_b32_224": {"embed_dim": 24, "num_blocks": 2, "patch_size": 16},
    "convnext_tiny": {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)},
    "swin_tiny_patch4_window7_224": {"embed_dim": 8, "depths": (2, 1, 2, 1), "num_heads": (1, 1, 2, 2)},
}
POOLED = {"vit_base_patch32_224": {"pooling": "average"}}


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("size", [32, 33, 48, 65, 100, 224, 384])
def test_towers_of_every_family_learn_at_any_image_size(name: str, size: int) -> None:
    encoder = build(name, image_size=size, architecture=NARROW[name], **POOLED.get(name, {})).train()
    features = encoder(pictures(2, size))
    assert features.shape == (2, encoder.feature_dim)
    features.square().mean().backward()
    missing = [key for key, value in encoder.named_parameters() if value.grad is None]
    assert not missing
    assert all(bool(value.grad.isfinite().all()) for value in encoder.parameters())


def test_an_architecture_is_told_to_the_cache_of_features() -> None:
    plain, deeper = (
        build("vit_base_patch32_224", architecture={"embed_dim": 24, "depth": depth, "num_heads": 2})
        for depth in (1, 2)
    )
    assert plain.settings != deeper.settings
    assert (len(plain.tower.blocks), len(deeper.tower.blocks), plain.feature_dim) == (1, 2, 24)
    assert "architecture" not in build().settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pretrained": "hub"}, "architecture makes another tower than the hub has weights of"),
        ({"architecture": {"img_size": 64}}, r"architecture\.img_size is image_size here"),
        ({"architecture": {"num_classes": 3}}, r"architecture\.num_classes is nothing here"),
        ({"architecture": {"embed_dmi": 3}}, r"cannot be built at 32 px with .*embed_dmi"),
        ({"architecture": {"embed_dim": 25, "num_heads": 2}}, r"cannot be built at 32 px"),
    ],
)
def test_an_architecture_that_cannot_be_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build("vit_base_patch32_224", **{"architecture": {"depth": 1}, **settings})


def test_a_mixer_is_timms_own_but_for_its_architecture() -> None:
    own = timm.create_model("mixer_b32_224", num_classes=0, img_size=64).eval()
    tower = build("mixer_b32_224", image_size=64, architecture={"num_blocks": 12}).tower
    tower.load_state_dict(own.state_dict())
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(tower(images), own(images))
    narrow = build("mixer_b32_224", image_size=64, architecture={"num_blocks": 3}).tower
    assert (len(narrow.blocks), narrow.stem.patch_size) == (3, (32, 32))


def test_a_tower_without_the_setting_keeps_its_hash() -> None:
    assert "architecture" not in TimmImageEncoderConfig(name="test_vit").model_dump()


def test_pixels_of_minus_one_to_one() -> None:
    encoder = build("test_resnet", normalization="half")
    low, high = encoder.normalise(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1))
    assert (low.unique().item(), high.unique().item()) == (-1, 1)
