"""Folded and fused towers compute what the others do."""

import copy

import pytest
import timm
import torch
from timm.models.inception_v3 import InceptionA
from torch import Tensor, nn

from pocketclip.cost.flops import tower_macs
from pocketclip.models.build import build_model
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.running import reparam
from pocketclip.models.running.reparam import (
    fold_batch_norms,
    fuse_image_tower,
    fuse_text_tower,
    join_branches,
    reparameterize,
)
from pocketclip.models.running.runner import Runner
from pocketclip.models.text.mixer import ConvolutionLayer


def randomise(tower: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics and scales far from those of an untrained batch norm, which does nothing."""
    random = torch.Generator().manual_seed(seed)
    for module in tower.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=random)
            module.running_var.uniform_(0.5, 2.0, generator=random)
            module.weight.data.uniform_(0.5, 1.5, generator=random)
            module.bias.data.normal_(0, 0.2, generator=random)
    return tower.eval().to(memory_format=torch.channels_last)  # depthwise convolutions are slow otherwise


def pictures(size: int, seed: int = 1) -> Tensor:
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return images.to(memory_format=torch.channels_last)


def num_batch_norms(tower: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in tower.modules())


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("mobilenetv2_050", 64),
        ("mobilenetv3_small_050", 64),
        ("tf_efficientnet_lite0", 64),
        ("resnet18", 64),
        pytest.param("inception_v3", 96, marks=pytest.mark.slow),
        ("test_efficientnet", 64),
        ("test_resnet", 64),
        ("test_byobnet", 64),
    ],
)
@torch.no_grad()
def test_a_folded_tower_has_no_batch_norm_and_the_same_output(name: str, size: int) -> None:
    torch.manual_seed(0)
    tower = randomise(timm.create_model(name, num_classes=0))
    folded = fold_batch_norms(tower, pictures(size))
    unseen = pictures(size, seed=2)
    expected = tower(unseen)
    assert num_batch_norms(tower) > 0
    assert num_batch_norms(folded) == 0
    assert float((folded(unseen) - expected).abs().max()) < reparam.TOLERANCE * float(expected.abs().max())


@torch.no_grad()
def test_the_original_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    tower = randomise(timm.create_model("test_efficientnet", num_classes=0)).train()
    before = copy.deepcopy(tower.state_dict())
    names = [name for name, _ in tower.named_modules()]
    fold_batch_norms(tower, pictures(32))
    assert tower.training
    assert [name for name, _ in tower.named_modules()] == names
    assert all(torch.equal(value, before[name]) for name, value in tower.state_dict().items())


@torch.no_grad()
def test_a_tower_without_batch_norms_is_copied() -> None:
    tower = timm.create_model("test_vit", num_classes=0, img_size=32).eval()
    folded = fold_batch_norms(tower, pictures(32))
    assert folded is not tower
    assert torch.equal(folded(pictures(32)), tower(pictures(32)))


@torch.no_grad()
def test_parallel_branches_are_folded() -> None:
    torch.manual_seed(0)
    block = InceptionA(3, pool_features=8)
    tower = randomise(nn.Sequential(block, nn.Flatten()))
    folded = fold_batch_norms(tower, pictures(8))
    assert (num_batch_norms(tower), num_batch_norms(folded)) == (7, 0)
    torch.testing.assert_close(folded(pictures(8, seed=2)), tower(pictures(8, seed=2)), atol=1e-4, rtol=1e-4)


class NormsBeforeConvolutions(nn.Module):
    """Registration order pairs the first convolution with the wrong norm."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.convolution(self.norm(images).relu()).mean((2, 3))


@torch.no_grad()
def test_a_tower_that_folding_would_change_is_returned_unfolded() -> None:
    tower = randomise(NormsBeforeConvolutions())
    folded = fold_batch_norms(tower, pictures(8))
    assert num_batch_norms(folded) == 1
    assert torch.equal(folded(pictures(8)), tower(pictures(8)))


@torch.no_grad()
def test_an_activation_inside_a_norm_is_kept() -> None:
    norm = timm.layers.BatchNormAct2d(4, act_layer=nn.ReLU)
    tower = randomise(nn.Sequential(nn.Conv2d(3, 4, 1), norm, nn.Flatten()))
    folded = fold_batch_norms(tower, pictures(8))
    assert num_batch_norms(folded) == 0
    assert (folded(pictures(8)) >= 0).all()
    torch.testing.assert_close(folded(pictures(8)), tower(pictures(8)))


@torch.no_grad()
def test_branches_that_joining_would_change_are_left() -> None:
    tower = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), Scaled(2.0), nn.Flatten()).eval()
    assert torch.equal(fuse_image_tower(tower, pictures(8))(pictures(8)), tower(pictures(8)))


class Scaled(nn.Module):
    """Its fused form forgets the factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * images

    def fuse(self) -> nn.Module:
        return nn.Identity()


SMALL = {  # the towers of MobileCLIP-S0, few and narrow layers of them
    "size": "mobileclip_s0",
    "image_encoder": {"name": "fastvit_t8", "image_size": 64},
    "text_encoder": {"width": 32, "num_heads": 2, "vocabulary_size": 200, "context_length": 16},
    "embed_dim": 32,
}


def model(values: object, seed: int = 0) -> DualEncoder:
    """Random weights, and batch norms that do something."""
    torch.manual_seed(seed)
    built = build_model(DualEncoderConfig.parse(values, place="model"), load_pretrained=False)
    randomise(built, seed)
    return built.eval()


def change_of_embeddings(before: DualEncoder, after: DualEncoder, size: int, vocabulary: int, length: int) -> float:
    """Largest change of any number of unit-length embeddings of two pictures and two texts."""
    random = torch.Generator().manual_seed(3)
    tokens = torch.randint(1, vocabulary, (2, length), generator=random)
    mask = torch.arange(length) < torch.tensor([length, length // 2])[:, None]
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=random)
    changes = []
    with torch.no_grad():
        for run in (lambda m: m.encode_image(images), lambda m: m.encode_text(tokens, mask)):
            rows = [nn.functional.normalize(run(each), dim=1) for each in (before, after)]
            changes.append(float((rows[0] - rows[1]).abs().max()))
    return max(changes)


def test_one_call_fuses_both_towers_and_changes_no_embedding() -> None:
    plain = model(SMALL)
    names = list(plain.state_dict())
    fused = reparameterize(plain.train())
    assert plain.training
    assert list(plain.state_dict()) == names
    assert not fused.training
    assert change_of_embeddings(plain.eval(), fused, 64, 200, 16) < 1e-6
    assert num_batch_norms(fused.image_encoder) == 0
    assert num_batch_norms(fused.text_encoder) == 0
    assert fused.image_encoder.feature_dim == plain.image_encoder.feature_dim


@torch.no_grad()
def test_a_fused_text_tower_is_exact_where_its_convolutions_matter() -> None:
    tower = model(SMALL).text_encoder.double()
    for layer in tower.layers:
        if isinstance(layer, ConvolutionLayer):
            layer.scale.uniform_(0.2, 1.0)
            layer.mixer.scale.uniform_(0.2, 1.0)
    tokens = torch.randint(1, 200, (3, 16), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(16) < torch.tensor([16, 5, 1])[:, None]
    torch.testing.assert_close(fuse_text_tower(tower)(tokens, mask), tower(tokens, mask), rtol=1e-10, atol=1e-12)


def test_the_model_that_encodes_is_the_fused_one() -> None:
    runner = Runner(model(SMALL), device=torch.device("cpu"), image_size=64, precision="float32")
    assert num_batch_norms(runner.encoder("image")) == 0
    assert num_batch_norms(runner.encoder("text")) == 0
    assert not hasattr(runner.encoder("image").tower.stages[0].blocks[0].token_mixer, "mixer")


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("mobileclip_s0", 256),
        pytest.param("mobileclip_s1", 256, marks=pytest.mark.slow),
        pytest.param("mobileclip_s2", 256, marks=pytest.mark.slow),
        ("mobileclip_b", 224),
    ],
)
@pytest.mark.slow
def test_published_models_keep_their_embeddings(name: str, size: int) -> None:
    plain = model(name)
    assert change_of_embeddings(plain, reparameterize(plain), size, 49408, 77) < 1e-6


@pytest.mark.parametrize(
    ("name", "image", "text", "image_gmacs", "text_gmacs"),
    [
        ("mobileclip_s0", 11.357, 42.435, 2.385, 1.318),
        pytest.param("mobileclip_s1", 21.461, 63.428, 4.658, 2.980, marks=pytest.mark.slow),
        pytest.param("mobileclip_s2", 35.702, 63.428, 7.834, 2.980, marks=pytest.mark.slow),
        pytest.param("mobileclip2_s3", 125.1, 123.6, None, None, marks=pytest.mark.slow),
        pytest.param("mobileclip2_s4", 321.6, 123.6, None, None, marks=pytest.mark.slow),
    ],
)
def test_published_counts_of_fused_towers(
    name: str, image: float, text: float, image_gmacs: float | None, text_gmacs: float | None
) -> None:
    config = DualEncoderConfig.parse(name, place=name)
    with torch.device("meta"):
        fused = build_model(config, load_pretrained=False)
        fused.image_encoder = join_branches(fused.image_encoder)
        fused.text_encoder = fuse_text_tower(fused.text_encoder)
        macs = tower_macs(fused, image_size=256, context_length=77)
    counts = [
        sum(value.numel() for module in modules for value in module.parameters()) / 1e6
        for modules in ((fused.image_encoder, fused.image_head), (fused.text_encoder, fused.text_head))
    ]
    assert counts == pytest.approx([image, text], rel=1e-3)
    if image_gmacs is not None:
        assert macs["macs_image"] / 1e9 == pytest.approx(image_gmacs, rel=1e-2)
        assert macs["macs_text"] / 1e9 == pytest.approx(text_gmacs, rel=1e-2)


def test_mobileclip_s0_fused() -> None:
    """At few pixels and ids; the published sizes are among the slow tests."""
    plain = model(
        {"size": "mobileclip_s0", "image_encoder": {"image_size": 64}, "text_encoder": {"vocabulary_size": 500}}
    )
    fused = reparameterize(plain)
    assert change_of_embeddings(plain, fused, 64, 500, 77) < 1e-6
    assert num_batch_norms(fused.image_encoder) == 2  # before attention, where no convolution is
    count = sum(value.numel() for part in (fused.image_encoder, fused.image_head) for value in part.parameters())
    assert count / 1e6 == pytest.approx(11.357, rel=1e-3)
