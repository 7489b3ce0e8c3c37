"""Batch norms that stand still are computed with the convolution before them, and nothing else changes."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from pocketclip.models.build import build_model
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.running.reparam import fold_batch_norms
from pocketclip.preprocess import PreprocessConfig
from pocketclip.train.modes import batch_norms
from pocketclip.train.still_norms import StillNorms

TOWERS = ["tf_efficientnet_lite0", "mobilenetv2_050", "mobilenetv3_small_050", "resnet18", "test_byobnet"]
"""Activations that are clipped, hard and plain, padding of TensorFlow's kind, convolutions apart from their norms."""


def model_of(name: str) -> DualEncoder:
    """With the statistics, weights and biases of a batch norm that has learned."""
    torch.manual_seed(0)
    values = {
        "image_encoder": {"kind": "timm", "name": name, "pretrained": "none", "image_size": 64},
        "text_encoder": {"kind": "huggingface", "name": "all-MiniLM-L6-v2", "pretrained": "none", "context_length": 8},
        "image_head": {"kind": "linear"},
        "text_head": {"kind": "linear"},
        "embed_dim": 8,
    }
    model = build_model(DualEncoderConfig.parse(values, place="model"), load_pretrained=False)
    for norm in batch_norms(model):
        nn.init.normal_(norm.running_mean, std=0.2)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.2)
    return model.train()


def stand_still(model: nn.Module) -> None:
    for norm in batch_norms(model):
        norm.eval()


def images(count: int = 4) -> Tensor:
    return torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def outputs_and_gradients(model: DualEncoder) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    torch.manual_seed(2)  # of what is dropped
    features = model.image_encoder(images())
    (features.square().mean() + features[:, 0].sum()).backward()
    named = model.image_encoder.named_parameters()
    return features.detach(), {name: value.grad.clone() for name, value in named if value.grad is not None}


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    largest = max(float(value.norm()) for value in expected.values())
    for name, value in expected.items():
        assert float((actual[name] - value).norm()) < 1e-4 * float(value.norm()) + 1e-6 * largest, name


def folding_changes_nothing(model: DualEncoder) -> int:
    """Hold outputs and gradients to those of the plain layers; returns how many batch norms are folded."""
    stand_still(model)
    expected, gradients = outputs_and_gradients(model)
    norms = StillNorms.of(model)
    with norms.folded():
        actual, folded_gradients = outputs_and_gradients(model)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert_same(folded_gradients, gradients)
    return len(norms.pairs)


@pytest.mark.parametrize("name", TOWERS)
def test_outputs_and_gradients_are_those_of_the_plain_layers(name: str) -> None:
    model = model_of(name)
    assert folding_changes_nothing(model) > 5


def test_no_batch_norm_runs_within() -> None:
    model = model_of("tf_efficientnet_lite0")
    stand_still(model)
    norms = StillNorms.of(model)
    with counted(nn.functional, "batch_norm") as calls, norms.folded():
        outputs_and_gradients(model)
    inside = len(calls)
    with counted(nn.functional, "batch_norm") as calls:
        outputs_and_gradients(model)
    assert (inside, len(calls) > 40) == (0, True)


@contextmanager
def counted(module: object, name: str) -> Iterator[list[int]]:
    """One item for each call of a function, within."""
    calls, plain = [], getattr(module, name)

    def counting(*args: object, **kwargs: object) -> object:
        calls.append(1)
        return plain(*args, **kwargs)

    setattr(module, name, counting)
    try:
        yield calls
    finally:
        setattr(module, name, plain)


def test_norms_in_training_mode_go_on_counting() -> None:
    model = model_of("mobilenetv2_050")
    other = copy.deepcopy(model)
    stand_still(model)
    norms = StillNorms.of(model)
    model.train()  # as a stage that trains them is, after one that did not
    with norms.folded():
        actual, gradients = outputs_and_gradients(model)
    expected, plain_gradients = outputs_and_gradients(other)
    assert torch.equal(actual, expected)
    assert_same(gradients, plain_gradients)
    for norm, other_norm in zip(batch_norms(model), batch_norms(other), strict=True):
        assert torch.equal(norm.running_mean, other_norm.running_mean)


def test_a_convolution_with_a_bias_and_a_norm_without_weights() -> None:
    model = model_of("resnet18")
    tower = model.image_encoder.tower
    tower.conv1.bias = nn.Parameter(torch.randn(64))
    tower.bn1 = nn.BatchNorm2d(64, affine=False)
    nn.init.normal_(tower.bn1.running_mean)
    assert folding_changes_nothing(model) == len(batch_norms(model))


def test_names_weights_and_layers_are_as_before_afterwards_and_after_an_error() -> None:
    model = model_of("tf_efficientnet_lite0")
    stand_still(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kept = [(dict(module.__dict__), getattr(module, "inplace", None)) for module in model.modules()]
    norms = StillNorms.of(model)
    with norms.folded():
        assert model.state_dict().keys() == before.keys()
    with pytest.raises(ZeroDivisionError), norms.folded():
        raise ZeroDivisionError
    assert [(module.__dict__.keys(), getattr(module, "inplace", None)) for module in model.modules()] == [
        (attributes.keys(), in_place) for attributes, in_place in kept
    ]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_evaluation_between_steps_folds_a_copy_of_its_own() -> None:
    model = model_of("tf_efficientnet_lite0")
    stand_still(model)
    with StillNorms.of(model).folded():
        outputs_and_gradients(model)
    model.eval()
    with torch.inference_mode():
        expected = model.image_encoder(images())
        folded = fold_batch_norms(model.image_encoder, images())(images())
    torch.testing.assert_close(folded, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_activations_that_are_computed_again_have_the_same_gradients() -> None:
    model = model_of("tf_efficientnet_lite0")
    stand_still(model)
    _, gradients = outputs_and_gradients(model)
    model.image_encoder.checkpoint_activations()
    with StillNorms.of(model).folded():
        _, folded_gradients = outputs_and_gradients(model)
    assert_same(folded_gradients, gradients)


class Crossed(nn.Module):
    """Batch norms that are registered behind the other one's convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.behind_second = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.second, self.behind_first = nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6)
        self.preprocess = PreprocessConfig(image_size=16)

    def forward(self, pixels: Tensor) -> Tensor:
        inner = self.behind_first(self.first(pixels / 255)).relu()
        outer: Tensor = self.behind_second(self.second(inner)).mean(dim=(2, 3))
        return outer


@pytest.mark.parametrize("is_learned", [False, True])
def test_norms_of_other_convolutions_are_left_alone_before_they_have_learned_anything(is_learned: bool) -> None:
    tower = Crossed().eval()
    if is_learned:
        nn.init.uniform_(tower.behind_first.weight, 0.5, 1.5)
        nn.init.normal_(tower.behind_second.running_mean)
    model = model_of("resnet18")
    model.image_encoder = tower  # type: ignore[assignment]
    assert StillNorms.of(model).pairs == []


@pytest.mark.parametrize("name", TOWERS)
def test_towers_that_have_learned_nothing_are_folded_too(name: str) -> None:
    model = model_of(name)
    stand_still(model)
    for norm in batch_norms(model):
        norm.reset_running_stats()
        nn.init.zeros_(norm.weight)  # as the last ones of residual blocks begin
    assert len(StillNorms.of(model).pairs) == len(batch_norms(model))


def test_in_bfloat16_it_is_as_near_as_the_plain_layers() -> None:
    model = model_of("resnet18")  # depthwise convolutions are computed in float32
    stand_still(model)
    norms = StillNorms.of(model)
    with torch.no_grad():
        exact = model.image_encoder(images())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            plain = model.image_encoder(images()).float()
            with norms.folded():
                folded = model.image_encoder(images()).float()
    assert float((folded - exact).norm()) < 1.5 * float((plain - exact).norm())


def test_a_compiled_tower_is_left_to_the_compiler() -> None:
    model = model_of("resnet18")
    stand_still(model)
    assert len(StillNorms.of(model).pairs) == len(batch_norms(model))
    model.compile_for_training()
    assert not StillNorms.of(model).pairs


def test_a_model_without_batch_norms_has_none() -> None:
    model = model_of("vit_tiny_patch16_224")
    assert StillNorms.of(model).pairs == []
