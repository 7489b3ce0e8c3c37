"""Convolutions that activate: the same numbers as the two modules."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip.models.running.fused import ACTIVATIONS, FusedConvolution, fuse_activations
from pocketclip.models.running.reparam import fold_batch_norms

timm = pytest.importorskip("timm")


def num_fused(tower: nn.Module) -> int:
    return sum(isinstance(module, FusedConvolution) for module in tower.modules())


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("groups", [1, 8])
def test_an_activation_is_taken_in_and_the_numbers_stay(activation: type[nn.Module], groups: int) -> None:
    torch.manual_seed(0)
    tower = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=groups), activation()).eval()
    images = 5 * torch.randn(2, 8, 9, 11)
    fused = fuse_activations(tower, images)
    assert num_fused(fused) == 1
    assert num_fused(tower) == 0
    torch.testing.assert_close(fused(images), tower(images), atol=1e-5, rtol=1e-5)


def test_the_other_gelu_is_left_alone() -> None:
    torch.manual_seed(0)
    tower, images = nn.Sequential(nn.Conv2d(8, 16, 1), nn.GELU(approximate="tanh")).eval(), torch.randn(2, 8, 9, 11)
    fused = fuse_activations(tower, images)
    assert [type(module) for module in fused.modules()].count(nn.GELU) == 1
    torch.testing.assert_close(fused(images), tower(images), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_paddings_of_tensorflow_are_zeros_on_the_right_sides(
    size: int, kernel: int, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    convolution = timm.layers.Conv2dSame(4, 8, kernel, stride=2, bias=True)
    images = torch.randn(2, 4, size, size + 3).to(memory_format=memory_format)
    torch.full((2, 4, 64, 64), float("nan"))  # so that memory which is not written to shows
    fused = FusedConvolution(convolution, nn.ReLU())
    with torch.no_grad():
        torch.testing.assert_close(fused(images), F.relu(convolution(images)), atol=1e-5, rtol=1e-5)


SLOW = ("tf_efficientnet_lite0", "mobilenetv3_small_100")
SLOW_TOWERS = [pytest.param(name, marks=pytest.mark.slow) for name in SLOW]


@pytest.mark.parametrize("name", ["test_efficientnet", *SLOW_TOWERS, "resnet18"])
def test_whole_towers_keep_their_features(name: str) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    tower = fold_batch_norms(timm.create_model(name, num_classes=0), images)
    fused = fuse_activations(tower, images)
    assert num_fused(fused) >= 8
    other = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(fused(other), tower(other), atol=1e-4, rtol=1e-4)


class Residual(nn.Module):
    """Its activation comes after an addition in place, so the convolution must not take it in."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.activation = nn.Conv2d(4, 4, 1), nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        output = self.convolution(images)
        output += images
        activated: Tensor = self.activation(output)
        return activated


class Twice(nn.Module):
    """Uses the convolution's output before and after the activation."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.activation = nn.Conv2d(4, 4, 1), nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        output = self.convolution(images)
        return output + self.activation(output)


@pytest.mark.parametrize("make", [Residual, Twice])
def test_an_activation_of_something_else_is_left_alone(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    tower, images = make().eval(), torch.randn(2, 4, 8, 8)
    fused = fuse_activations(tower, images)
    assert [type(module) for module in fused.modules()].count(nn.ReLU) == 1
    torch.testing.assert_close(fused(images), tower(images), atol=1e-6, rtol=1e-5)


def test_a_torch_without_the_operator_runs_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    tower, images = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()).eval(), torch.randn(2, 4, 8, 8)

    def missing(*_: object) -> Tensor:
        raise AttributeError("no such operator")

    monkeypatch.setattr(FusedConvolution, "forward", missing)
    assert fuse_activations(tower, images) is tower
    before = copy.deepcopy(tower.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in tower.state_dict().items())
