"""Projection heads against their formulas."""

import pytest
import torch
from torch import Tensor, nn

from pocketclip.errors import UserError
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.joints import IdentityHeadConfig, LinearHeadConfig, ResidualMlpHeadConfig


def features(count: int = 3, width: int = 12) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(0))


def layer_norm(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(1, keepdim=True)
    return centred / torch.sqrt(centred.pow(2).mean(1, keepdim=True) + 1e-5)


def gelu(rows: Tensor) -> Tensor:
    return rows * (1 + torch.erf(rows / 2**0.5)) / 2


def test_the_residual_head_equals_its_formula_written_out() -> None:
    torch.manual_seed(0)
    head = ResidualMlpHeadConfig().build(12, 5).eval()
    nn.init.normal_(head.norm.weight)
    nn.init.normal_(head.norm.bias)
    weights = dict(head.named_parameters())
    projected = features() @ weights["projection.weight"].T + weights["projection.bias"]
    hidden = gelu(projected) @ weights["hidden.weight"].T + weights["hidden.bias"]
    expected = layer_norm(hidden + projected) * weights["norm.weight"] + weights["norm.bias"]
    torch.testing.assert_close(head(features()), expected)


def test_the_residual_head_drops_from_the_hidden_layer_but_not_from_the_skip() -> None:
    head = ResidualMlpHeadConfig(dropout=0.9999).build(12, 5).train()
    torch.testing.assert_close(head(features()), layer_norm(head.projection(features())))


def test_the_residual_head_may_normalise_its_input() -> None:
    head = ResidualMlpHeadConfig(input_norm=True).build(12, 5).eval()
    torch.testing.assert_close(head(1000 * features() + 7), head(features()), atol=1e-4, rtol=1e-4)
    plain = ResidualMlpHeadConfig().build(12, 5).eval()
    plain.load_state_dict({name: value for name, value in head.state_dict().items() if "input_norm" not in name})
    torch.testing.assert_close(head(features()), plain(layer_norm(features())))


@pytest.mark.parametrize(
    "config", [ResidualMlpHeadConfig(dropout=0, input_dropout=0.5), LinearHeadConfig(input_dropout=0.5)]
)
def test_input_dropout_drops_in_training_only(config: LinearHeadConfig | ResidualMlpHeadConfig) -> None:
    torch.manual_seed(0)
    head = config.build(12, 5)
    assert not torch.equal(head(features()), head(features()))
    head.eval()
    assert torch.equal(head(features()), head(features()))


def test_the_linear_head_is_one_matrix() -> None:
    head = LinearHeadConfig().build(12, 5)
    (weight,) = head.parameters()
    torch.testing.assert_close(head(features()), features() @ weight.T)


def test_the_linear_head_may_have_a_bias() -> None:
    head = LinearHeadConfig(bias=True).build(12, 5)
    assert sum(value.numel() for value in head.parameters()) == 12 * 5 + 5


def test_the_identity_head_changes_nothing() -> None:
    assert IdentityHeadConfig().build(12, 12)(features()) is not None
    assert torch.equal(IdentityHeadConfig().build(12, 12)(features()), features())


def test_the_identity_head_names_the_width_it_needs() -> None:
    with pytest.raises(UserError, match=r"model\.embed_dim: .*set embed_dim to 12 \(got 16\)"):
        IdentityHeadConfig().build(12, 16)


@pytest.mark.parametrize(("width", "millions"), [(2048, 0.5908), (1280, 0.3942), (768, 0.2632)])
def test_the_studys_heads_have_their_published_size(width: int, millions: float) -> None:
    head = ResidualMlpHeadConfig().build(width, 256)
    assert sum(value.numel() for value in head.parameters()) / 1e6 == pytest.approx(millions, rel=1e-3)


@pytest.mark.parametrize("settings", [{"dropout": 1.0}, {"dropout": -0.1}, {"width": 3}])
def test_a_wrong_setting_is_named(settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"head: {next(iter(settings))}: "):
        ResidualMlpHeadConfig.parse(settings, place="head")


def test_an_unknown_head_names_the_known_ones() -> None:
    values = {"image_encoder": {"name": "x"}, "text_encoder": {"name": "x"}, "image_head": {"kind": "mlp"}}
    with pytest.raises(UserError, match=r"image_head: .*'mlp'\. Known: identity, linear, residual_mlp"):
        DualEncoderConfig.parse(values, place="model")
