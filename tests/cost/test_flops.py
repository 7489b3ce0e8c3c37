"""Multiply-accumulates against formulas by hand and against published counts."""

import pytest
import torch
from torch import Tensor, nn

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.cost.flops import count_macs, counted_macs, tower_macs
from pocketclip.models.image.config import TimmImageEncoderConfig
from pocketclip.models.text.config import HuggingFaceTextEncoderConfig
from pocketclip.models.text.huggingface import HuggingFaceTextEncoder


def module_macs(module: nn.Module, *inputs: Tensor) -> int:
    module.eval()
    return count_macs(lambda: module(*inputs))


def test_a_linear_layer_costs_its_inputs_times_its_outputs() -> None:
    assert module_macs(nn.Linear(7, 5), torch.zeros(3, 7)) == 3 * 7 * 5


def test_a_grouped_convolution_costs_its_kernel_at_every_pixel() -> None:
    convolution = nn.Conv2d(8, 12, kernel_size=3, stride=2, padding=1, groups=4)
    assert module_macs(convolution, torch.zeros(1, 8, 10, 10)) == 5 * 5 * 12 * (8 // 4) * 9


def test_norms_and_activations_are_free() -> None:
    assert module_macs(nn.Sequential(nn.BatchNorm2d(4), nn.GELU()), torch.zeros(1, 4, 8, 8)) == 0


@pytest.mark.parametrize("grad", [True, False])
def test_fused_attention_counts_both_of_its_products(grad: bool) -> None:
    query = torch.zeros(1, 3, 10, 8, requires_grad=grad)
    macs = count_macs(lambda: nn.functional.scaled_dot_product_attention(query, query, query))
    assert macs == 2 * 3 * 10 * 10 * 8


def test_an_encoder_layer_of_torch_counts_without_its_fast_path() -> None:
    layer = nn.TransformerEncoderLayer(16, nhead=2, dim_feedforward=64, batch_first=True)
    tokens = 10
    projections, attention, feed_forward = 4 * tokens * 16 * 16, 2 * tokens * tokens * 16, 2 * tokens * 16 * 64
    assert module_macs(layer, torch.zeros(1, tokens, 16)) == projections + attention + feed_forward


@pytest.mark.parametrize("enabled", [True, False])
def test_the_fast_path_setting_is_put_back(enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(enabled)
        module_macs(nn.Linear(2, 2), torch.zeros(1, 2))
        assert torch.backends.mha.get_fastpath_enabled() is enabled
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def test_both_towers_count_their_heads(tiny_pretrained: PretrainedModel) -> None:
    model = tiny_pretrained.model
    macs = tower_macs(model, image_size=32, context_length=16)
    width = model.image_encoder.feature_dim
    assert macs["macs_image"] == module_macs(model.image_encoder, torch.zeros(1, 3, 32, 32)) + width * 16
    tokens = torch.ones(1, 16, dtype=torch.int64)
    text = module_macs(model.text_encoder, tokens, tokens.bool())
    assert macs["macs_text"] == text + 32 * 16 + 16 * 16  # the residual head's two layers


def test_a_longer_text_costs_more_and_the_image_the_same(tiny_pretrained: PretrainedModel) -> None:
    short = tower_macs(tiny_pretrained.model, image_size=32, context_length=8)
    long = tower_macs(tiny_pretrained.model, image_size=32, context_length=16)
    assert long["macs_text"] > 2 * short["macs_text"] - 32 * 16 - 16 * 16
    assert long["macs_image"] == short["macs_image"]


@pytest.mark.parametrize(
    ("name", "size", "billions"),
    [
        ("resnet50", 224, 4.087),
        ("mobilenetv2_100", 224, 0.299),
        ("efficientnet_b0", 224, 0.385),
        ("inception_v3", 224, 2.836),
        ("inception_v3", 299, 5.711),
        ("vit_base_patch16_224", 224, 17.56),
        ("vit_tiny_patch16_224", 224, 1.253),
    ],
)
def test_image_towers_have_their_published_macs(name: str, size: int, billions: float) -> None:
    with torch.device("meta"):  # shapes are enough to count
        encoder = TimmImageEncoderConfig(name=name, pretrained="none", image_size=size).build()
        macs = module_macs(encoder, torch.zeros(1, 3, size, size))
    assert macs / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.fixture(scope="module")
def distilbert() -> HuggingFaceTextEncoder:
    config = HuggingFaceTextEncoderConfig(name="distilbert-base-uncased", pretrained="none", context_length=200)
    with torch.device("meta"):  # random starting values would take seconds
        encoder = config.build()
    encoder.to_empty(device="cpu")
    for value in encoder.state_dict(keep_vars=True).values():
        value.data.zero_()
    for buffer in encoder.buffers():
        buffer.zero_()
    return encoder


@pytest.mark.parametrize(("length", "billions"), [(200, 8.862), (77, 3.325)])
def test_distilbert_has_its_published_macs(distilbert: HuggingFaceTextEncoder, length: int, billions: float) -> None:
    tokens = torch.zeros(1, length, dtype=torch.int64)
    macs = module_macs(distilbert, tokens, torch.ones(1, length, dtype=torch.bool))
    assert macs / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_a_convolutions_two_gradients_cost_what_it_does(groups: int) -> None:
    convolution = nn.Conv2d(8, 16, kernel_size=3, padding=1, groups=groups)
    forward = 6 * 6 * 16 * (8 // groups) * 9
    with counted_macs() as counter:
        convolution(torch.zeros(1, 8, 6, 6, requires_grad=True)).sum().backward()
    assert counter.get_total_flops() == 2 * 3 * forward
