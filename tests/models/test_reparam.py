"""Folded towers compute what the unfolded ones do."""

import copy

import pytest
import timm
import torch
from timm.models.inception_v3 import InceptionA
from torch import Tensor, nn

from pocketclip.models import reparam
from pocketclip.models.reparam import fold_batch_norms


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
