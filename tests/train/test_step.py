"""One update: AdamW written out, clipping, and chunks that change nothing."""

import copy
import math
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.running.precision import autocast
from pocketclip.models.tower import CachedTower, ImageTower, TextTower
from pocketclip.objectives.config import ContrastiveObjectiveConfig
from pocketclip.train.optimizer import build_optimizer
from pocketclip.train.rates import AdamWConfig, LearningRates
from pocketclip.train.step import train_step
from pocketclip.types import Features, ImageTextBatch

RATES = LearningRates(heads=1e-2, image_encoder=1e-3, text_encoder=1e-4)
ADAMW = AdamWConfig(weight_decay=0.3, betas=(0.8, 0.95), eps=1e-6)
OBJECTIVE = ContrastiveObjectiveConfig().build()


class Tower(ImageTower, TextTower):
    """Two layers that take tokens with their mask, too."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        del mask
        return self.layers(values)


def tower(width: int) -> Tower:
    return Tower(nn.Linear(width, 12), nn.Tanh(), nn.LayerNorm(12))


def make(temperature: float = 0.07) -> DualEncoder:
    torch.manual_seed(0)
    heads = nn.Linear(12, 4), nn.Linear(12, 4)
    return DualEncoder(tower(6), tower(5), *heads, temperature=temperature).double().train()


def batch(size: int = 7, seed: int = 0) -> ImageTextBatch:
    random = torch.Generator().manual_seed(seed)
    return ImageTextBatch(
        images=torch.randn(size, 6, dtype=torch.float64, generator=random),
        tokens=torch.randn(size, 5, dtype=torch.float64, generator=random),
        token_mask=torch.ones(size, 0, dtype=torch.bool),
        image_ids=torch.arange(size),
        caption_ids=torch.arange(size),
    )


def step(
    model: DualEncoder, optimizer: torch.optim.Optimizer, data: ImageTextBatch, **settings: Any
) -> dict[str, Tensor]:
    options = {"autocast": nullcontext, "max_grad_norm": None, **settings}
    return train_step(model, OBJECTIVE, data, optimizer, **options)


def loss_of(model: DualEncoder, data: ImageTextBatch) -> Tensor:
    return OBJECTIVE(model(data), data)["clip"]


def adamw_by_hand(model: DualEncoder, data: list[ImageTextBatch], max_norm: float | None) -> dict[str, Tensor]:
    """The algorithm of https://arxiv.org/abs/1711.05101, value by value; decay for matrices only."""
    parts = {"image_encoder": 1e-3, "text_encoder": 1e-4}
    moments = {name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in model.named_parameters()}
    for number, each in enumerate(data, start=1):
        named = dict(model.named_parameters())
        gradients = dict(zip(named, torch.autograd.grad(loss_of(model, each), list(named.values())), strict=True))
        norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients.values()))
        scale = 1.0 if max_norm is None else min(1.0, max_norm / (norm + 1e-6))
        with torch.no_grad():
            for name, value in named.items():
                rate = parts.get(name.split(".")[0], 1e-2)
                gradient, (first, second) = scale * gradients[name], moments[name]
                first.mul_(0.8).add_(0.2 * gradient)
                second.mul_(0.95).add_(0.05 * gradient**2)
                mean, square = first / (1 - 0.8**number), second / (1 - 0.95**number)
                decay = 0.3 if value.ndim >= 2 else 0.0
                value.sub_(rate * decay * value).sub_(rate * mean / (square.sqrt() + 1e-6))
    return {name: value.detach() for name, value in model.named_parameters()}


@pytest.mark.parametrize("max_norm", [None, 0.1])
def test_steps_equal_adamw_written_out(max_norm: float | None) -> None:
    data = [batch(seed=seed) for seed in range(3)]
    expected = adamw_by_hand(make(), data, max_norm)
    model = make()
    optimizer = build_optimizer(model, ADAMW, RATES)
    for each in data:
        step(model, optimizer, each, max_grad_norm=max_norm)
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.detach(), expected[name], rtol=1e-9, atol=1e-12, msg=name)


def test_what_is_returned_is_measured_before_the_update_and_detached() -> None:
    model, data = make(), batch()
    loss = loss_of(model, data)
    loss.backward()
    norm = math.sqrt(sum(float((value.grad**2).sum()) for value in model.parameters() if value.grad is not None))
    scalars = step(model, build_optimizer(model, ADAMW, RATES), data, max_grad_norm=1e-3)
    assert scalars.keys() == {"clip", "loss", "grad_norm"}
    assert float(scalars["loss"]) == float(scalars["clip"]) == pytest.approx(loss.item())
    assert float(scalars["grad_norm"]) == pytest.approx(norm)
    assert not any(value.requires_grad for value in scalars.values())


def test_the_loss_is_the_sum_of_the_named_ones() -> None:
    def two(features: Features, data: ImageTextBatch) -> dict[str, Tensor]:
        return {"one": features.image.square().mean(), "two": 3 * features.text.square().mean()}

    model, by_hand = make(), make()
    features = by_hand(batch())
    (features.image.square().mean() + 3 * features.text.square().mean()).backward()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scalars = train_step(model, two, batch(), optimizer, autocast=nullcontext, max_grad_norm=None)
    assert float(scalars["loss"]) == pytest.approx(float(scalars["one"] + scalars["two"]))
    for (name, value), before in zip(model.named_parameters(), by_hand.parameters(), strict=True):
        gradient = 0 if before.grad is None else before.grad
        torch.testing.assert_close(value, before - 0.1 * gradient, msg=name)


@pytest.mark.parametrize(("max_norm", "length"), [(0.01, 0.01), (1e6, None), (None, None)])
def test_clipping_shortens_a_long_gradient_and_leaves_a_short_one(max_norm: float | None, length: float | None) -> None:
    model, before = make(), make()
    plain = torch.cat([g.flatten() for g in torch.autograd.grad(loss_of(before, batch()), list(before.parameters()))])
    rate = 1e-3  # small, so that the temperature stays where it is not clamped
    step(model, torch.optim.SGD(model.parameters(), lr=rate), batch(), max_grad_norm=max_norm)
    pairs = zip(before.parameters(), model.parameters(), strict=True)
    moved = torch.cat([(old - new).detach().flatten() for old, new in pairs]) / rate
    assert float(moved.norm()) == pytest.approx(length or float(plain.norm()), rel=1e-3)
    assert float(torch.cosine_similarity(moved, plain, dim=0)) == pytest.approx(1)


def test_a_frozen_part_neither_moves_nor_counts_in_the_norm() -> None:
    model = make()
    before = copy.deepcopy(model.state_dict())
    optimizer = build_optimizer(model, ADAMW, LearningRates(heads=1e-2))
    norm = float(step(model, optimizer, batch(), max_grad_norm=1.0)["grad_norm"])
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"image_head", "text_head", "logit_scale"}
    heads = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    fresh = make()
    fresh.image_encoder.requires_grad_(False)
    fresh.text_encoder.requires_grad_(False)
    wanted = [parameter for parameter in fresh.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss_of(fresh, batch()), wanted)
    assert len(heads) == len(wanted)
    assert norm == pytest.approx(math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients)))


def test_gradients_left_over_do_not_count() -> None:
    model, clean = make(), make()
    for value in model.parameters():
        value.grad = torch.full_like(value, 100.0)
    for each in (model, clean):
        step(each, build_optimizer(each, ADAMW, RATES), batch())
    for value, expected in zip(model.parameters(), clean.parameters(), strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize("chunk_size", [1, 3, 6, 7, 50])
def test_chunks_give_the_step_of_the_whole_batch(chunk_size: int) -> None:
    whole, chunked = make(), make()
    expected = step(whole, build_optimizer(whole, ADAMW, RATES), batch(), max_grad_norm=0.1)
    scalars = step(chunked, build_optimizer(chunked, ADAMW, RATES), batch(), max_grad_norm=0.1, chunk_size=chunk_size)
    assert scalars.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(scalars[name], value, rtol=1e-5, atol=1e-7, msg=name)
    for (name, value), other in zip(whole.named_parameters(), chunked.parameters(), strict=True):
        torch.testing.assert_close(other, value, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_the_temperature_is_clamped_after_the_step(chunk_size: int | None) -> None:
    model = make(temperature=0.01)
    optimizer = torch.optim.SGD([model.logit_scale], lr=1e6)
    data = batch()
    perfect = ImageTextBatch(data.images, data.images[:, :5], data.token_mask, data.image_ids, data.caption_ids)
    for _ in range(3):
        step(model, optimizer, perfect, chunk_size=chunk_size)
        assert 1 - 1e-9 <= float(model.logit_scale.detach().exp()) <= 100 + 1e-4


def test_weights_stay_float32_where_the_pass_is_in_bfloat16() -> None:
    torch.manual_seed(0)
    model = DualEncoder(CachedTower(), CachedTower(), nn.Linear(8, 4), nn.Linear(8, 4))
    rows = torch.randn(2, 6, 8)
    ids = torch.arange(6)
    data = ImageTextBatch(rows[0], rows[1], torch.ones(6, 0, dtype=torch.bool), ids, ids)
    optimizer = build_optimizer(model, ADAMW, LearningRates(heads=1e-2))
    scalars = step(model, optimizer, data, autocast=partial(autocast, "bfloat16", torch.device("cpu")))
    assert scalars["loss"].dtype == torch.float32
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert {value.grad.dtype for value in model.parameters() if value.grad is not None} == {torch.float32}
