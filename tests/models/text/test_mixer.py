"""A layer of convolutions over a text's tokens, in training form and fused."""

import copy

import pytest
import torch
from torch import Tensor, nn

from pocketclip.models.text.mixer import ConvolutionLayer, RepMixer, normalise, over_sequence

WIDTH, KERNEL = 6, 5


def layer(seed: int = 0) -> ConvolutionLayer:
    torch.manual_seed(seed)
    made = ConvolutionLayer(WIDTH, 4 * WIDTH, KERNEL, "gelu").double().eval()
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2.0)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
        made.scale.uniform_(0.2, 1.0)
        made.mixer.scale.uniform_(0.2, 1.0)
    return made


def states(count: int = 3, length: int = 9) -> Tensor:
    return torch.randn(count, length, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def convolve_slowly(weight: Tensor, text: Tensor) -> Tensor:
    """(L, W), each channel alone, zeros beyond both ends."""
    result = torch.zeros_like(text)
    for place in range(len(text)):
        for tap in range(KERNEL):
            other = place + tap - KERNEL // 2
            if 0 <= other < len(text):
                result[place] += weight[:, 0, 0, tap] * text[other]
    return result


def norm_slowly(norm: nn.BatchNorm2d, text: Tensor) -> Tensor:
    return (text - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias


@torch.no_grad()
def test_it_is_what_its_formula_says() -> None:
    made = layer()
    mixer = made.mixer
    assert isinstance(mixer, RepMixer)
    for text, actual in zip(states(), made(states(), None), strict=True):
        mixed = norm_slowly(mixer.convolution_norm, convolve_slowly(mixer.convolution.weight, text))
        mixed = text + mixer.scale * (mixed + norm_slowly(mixer.skip_norm, text) - norm_slowly(mixer.norm, text))
        inner = norm_slowly(made.norm, convolve_slowly(made.convolution.weight, mixed))
        torch.testing.assert_close(actual, mixed + made.scale * made.feed_forward(inner))


@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_the_fused_form_is_the_same_function(masked: bool) -> None:
    made, fused = layer(), layer()
    fused.reparameterize()
    mask = torch.arange(9) < torch.tensor([9, 4, 1])[:, None] if masked else None
    seen = torch.ones(3, 9, dtype=torch.bool) if mask is None else mask
    torch.testing.assert_close(fused(states(), mask)[seen], made(states(), mask)[seen], rtol=1e-12, atol=1e-12)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert sum(isinstance(module, nn.Conv2d) for module in fused.modules()) == 2
    again = copy.deepcopy(fused)
    again.reparameterize()
    assert torch.equal(again(states(), mask), fused(states(), mask))


@torch.no_grad()
def test_an_untrained_layer_changes_nearly_nothing() -> None:
    torch.manual_seed(0)
    made = ConvolutionLayer(WIDTH, 4 * WIDTH, KERNEL, "gelu").double().eval()
    torch.testing.assert_close(made(states(), None), states(), rtol=0, atol=1e-3)


def test_statistics_are_those_of_tokens() -> None:
    norm = nn.BatchNorm2d(WIDTH, dtype=torch.float64).train()
    mask = torch.arange(9) < torch.tensor([9, 4, 2])[:, None]
    values = states()
    normed = normalise(norm, values.transpose(1, 2).unsqueeze(2), mask[:, None, None])
    rows = normed.squeeze(2).transpose(1, 2)
    expected = (values[mask] - values[mask].mean(0)) / (values[mask].var(0, correction=0) + norm.eps).sqrt()
    torch.testing.assert_close(rows[mask], expected)
    assert (rows[~mask] == 0).all()
    torch.testing.assert_close(norm.running_mean, 0.1 * values[mask].mean(0))


def test_convolutions_need_no_copy_of_a_transformers_states() -> None:
    images = states().transpose(1, 2).unsqueeze(2)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert over_sequence(WIDTH, KERNEL).double()(images).shape == images.shape
