"""Devices and number types by name."""

import pytest
import torch

from pocketclip.errors import UserError
from pocketclip.models.running import precision
from pocketclip.models.running.precision import (
    autocast,
    precision_of_scores,
    resolve_device,
    resolve_precision,
    round_to_half,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(("fast", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_bfloat16_where_the_processor_multiplies_it(
    fast: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda: fast)
    assert resolve_precision("auto", CPU) == chosen


@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_a_named_precision_is_kept(wanted: precision.Precision) -> None:
    assert resolve_precision(wanted, CPU) == wanted


@pytest.mark.parametrize(("wanted", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_products_are_computed_in_the_chosen_type(wanted: precision.Precision, dtype: torch.dtype) -> None:
    linear = torch.nn.Linear(2, 2)
    with autocast(wanted, CPU):
        assert linear(torch.ones(1, 2)).dtype == dtype
    assert linear.weight.dtype == torch.float32


@pytest.mark.parametrize(("has_gpu", "chosen"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_the_gpu_where_there_is_one(has_gpu: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert resolve_device("auto").type == chosen


def test_the_cpu_can_be_chosen() -> None:
    assert resolve_device("cpu") == CPU


def test_an_unknown_device_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"device: should be cpu, cuda or auto \(got 'gpu'\)"):
        resolve_device("gpu")


@pytest.mark.parametrize(("name", "count"), [("cuda", 0), ("cuda:1", 1)])
def test_a_gpu_that_is_not_there_is_an_error(name: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(UserError, match=rf"torch sees {count} CUDA devices here \(got '{name}'\); use cpu"):
        resolve_device(name)


def test_scores_are_computed_in_float32_unless_another_type_is_named() -> None:
    assert precision_of_scores("auto") == "float32"
    assert precision_of_scores("bfloat16") == "bfloat16"


def test_weights_are_rounded_in_place_and_once() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    round_to_half(model)
    once = {name: value.clone() for name, value in model.state_dict().items()}
    round_to_half(model)
    for name, value in model.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, once[name])
        torch.testing.assert_close(value, before[name], rtol=1e-3, atol=1e-4)
    model[0].bias.data[0] = 1e6
    with pytest.raises(UserError, match=r"0\.bias is beyond float16"):
        round_to_half(model)
