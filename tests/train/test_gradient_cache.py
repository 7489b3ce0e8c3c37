"""Chunked passes give the gradient of the whole batch."""

import copy
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pocketclip.config import kinds_of
from pocketclip.losses.config import ClipLossConfig, MultiPositiveLossConfig, SigmoidLossConfig, SoftTargetLossConfig
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.tower import ImageTower, TextTower
from pocketclip.objectives.config import (
    ContrastiveObjectiveConfig,
    DistillationObjectiveConfig,
    ReinforcedObjectiveConfig,
)
from pocketclip.objectives.terms import TermConfig
from pocketclip.train.gradient_cache import chunk_bounds, chunked_backward
from pocketclip.types import Features, ImageTextBatch
from taught import WIDTHS, make_taught

LOSSES = [ClipLossConfig(), SigmoidLossConfig(), SoftTargetLossConfig(), MultiPositiveLossConfig()]


class Tower(ImageTower, TextTower):
    """A tower with dropout, so that the random state of both passes has to agree."""

    def __init__(self, width: int, *, batch_norm: bool = False) -> None:
        super().__init__()
        norm: nn.Module = nn.BatchNorm1d(12) if batch_norm else nn.Identity()
        self.layers = nn.Sequential(nn.Linear(width, 12), norm, nn.Dropout(0.4), nn.Tanh())

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        del mask
        return self.layers(values)


def make(*, batch_norm: bool = False, bias: bool = True) -> tuple[DualEncoder, ImageTextBatch]:
    torch.manual_seed(0)
    towers = Tower(6, batch_norm=batch_norm), Tower(5)
    model = DualEncoder(*towers, nn.Linear(12, 4), nn.Linear(12, 4), logit_bias=-2.0 if bias else None).double()
    batch = ImageTextBatch(
        images=torch.randn(7, 6, dtype=torch.float64),
        tokens=torch.randn(7, 5, dtype=torch.float64),
        token_mask=torch.ones(7, 0, dtype=torch.bool),
        image_ids=torch.arange(7),
        caption_ids=torch.tensor([0, 1, 2, 3, 1, 5, 6]),
    )
    return model.train(), batch


def whole_batch_gradients(model: DualEncoder, batch: ImageTextBatch, loss: object, chunk: int) -> dict[str, Tensor]:
    """The plain backward pass, its dropout drawn chunk by chunk as the chunked one draws it."""
    model = copy.deepcopy(model)
    objective = ContrastiveObjectiveConfig(loss=loss).build()
    parts = [model(batch.pairs(start, stop)) for start, stop in chunk_bounds(len(batch), -(-len(batch) // chunk))]
    features = type(parts[0])(
        image=torch.cat([part.image for part in parts]),
        text=torch.cat([part.text for part in parts]),
        logit_scale=model.logit_scale.exp(),
        logit_bias=model.logit_bias,
    )
    torch.stack(list(objective(features, batch).values())).sum().backward()
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize(
    ("num_images", "num_chunks", "expected"),
    [(7, 3, [(0, 2), (2, 4), (4, 7)]), (4, 2, [(0, 2), (2, 4)]), (8, 2, [(0, 4), (4, 8)]), (3, 1, [(0, 3)])],
)
def test_chunks_are_of_like_size(num_images: int, num_chunks: int, expected: list[tuple[int, int]]) -> None:
    assert chunk_bounds(num_images, num_chunks) == expected


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.kind)
@pytest.mark.parametrize("chunk", [1, 3, 7, 20])
def test_gradients_equal_the_whole_batch(loss: object, chunk: int) -> None:
    model, batch = make()
    state = torch.get_rng_state()
    expected = whole_batch_gradients(model, batch, loss, chunk)
    torch.set_rng_state(state)
    objective = ContrastiveObjectiveConfig(loss=loss).build()
    chunked_backward(model, objective, batch, chunk_size=chunk, autocast=nullcontext)
    for name, gradient in expected.items():
        actual = dict(model.named_parameters())[name].grad
        assert actual is not None, name
        assert torch.allclose(actual, gradient, rtol=1e-5, atol=1e-7), name


def test_losses_equal_the_plain_ones() -> None:
    model, batch = make()
    model.eval()
    objective = ContrastiveObjectiveConfig().build()
    plain = objective(model(batch), batch)["clip"]
    chunked = chunked_backward(model, objective, batch, chunk_size=2, autocast=nullcontext)["clip"]
    assert torch.allclose(plain, chunked)


def test_random_state_afterwards_is_that_of_one_pass() -> None:
    model, batch = make()
    state = torch.get_rng_state()
    for start, stop in chunk_bounds(len(batch), 3):
        model(batch.pairs(start, stop))
    after_one_pass = torch.get_rng_state()
    torch.set_rng_state(state)
    objective = ContrastiveObjectiveConfig().build()
    chunked_backward(model, objective, batch, chunk_size=3, autocast=nullcontext)
    assert torch.equal(torch.get_rng_state(), after_one_pass)


def test_batch_norm_counts_each_chunk_once() -> None:
    model, batch = make(batch_norm=True)
    once = copy.deepcopy(model)
    for start, stop in chunk_bounds(len(batch), 2):
        once(batch.pairs(start, stop))
    objective = ContrastiveObjectiveConfig().build()
    chunked_backward(model, objective, batch, chunk_size=4, autocast=nullcontext)
    for (name, actual), (_, expected) in zip(model.named_buffers(), once.named_buffers(), strict=True):
        assert torch.allclose(actual.double(), expected.double()), name


def test_a_frozen_tower_takes_no_gradient() -> None:
    model, batch = make()
    model.image_encoder.requires_grad_(False)
    model.image_head.requires_grad_(False)
    objective = ContrastiveObjectiveConfig().build()
    chunked_backward(model, objective, batch, chunk_size=3, autocast=nullcontext)
    assert all(parameter.grad is None for parameter in model.image_encoder.parameters())
    assert all(parameter.grad is not None for parameter in model.text_encoder.parameters())


@pytest.mark.parametrize("kind", ["reinforced", "distillation"])
def test_objectives_with_teachers_give_the_plain_gradient_to_the_model_and_to_what_they_learn(kind: str) -> None:
    model, _ = make()
    model.eval()  # no dropout, so that one pass can be compared
    _, taught = make_taught(7, captions=2, num_synthetic=1)
    images, tokens = torch.randn(7, 6, dtype=torch.float64), torch.randn(14, 5, dtype=torch.float64)
    teachers = tuple(replace(one, image=one.image.float(), text=one.text.float()) for one in taught.teachers)
    batch = replace(taught, images=images, tokens=tokens, teachers=teachers)
    config = (
        ReinforcedObjectiveConfig(distill_weight=0.6)
        if kind == "reinforced"
        else DistillationObjectiveConfig.parse(
            {"terms": [{"kind": term} for term in kinds_of(TermConfig)]}, place="test"
        )
    )
    objective = config.build(embed_dim=4, teacher_widths=WIDTHS)
    whole = torch.nn.ModuleList([model, objective if isinstance(objective, nn.Module) else nn.Identity()])
    torch.stack(list(objective(model(batch), batch).values())).sum().backward()
    expected = {name: value.grad.clone() for name, value in whole.named_parameters() if value.grad is not None}
    whole.zero_grad()
    chunked_backward(model, objective, batch, chunk_size=3, autocast=nullcontext)
    assert sum(name.startswith("1.") for name in expected) == (0 if kind == "reinforced" else 5)
    for name, value in whole.named_parameters():
        assert (value.grad is None) == (name not in expected), name
        if value.grad is not None:
            torch.testing.assert_close(value.grad, expected[name], rtol=1e-4, atol=1e-5, check_dtype=False, msg=name)


def test_further_views_get_their_gradient_too() -> None:
    """The towers' dropout is off, so that all passes agree."""
    model, batch = make()
    model.eval()
    batch = replace(batch, views=tuple(torch.randn(7, 6, dtype=torch.float64) for _ in range(2)))

    def objective(features: Features, batch: ImageTextBatch) -> dict[str, Tensor]:
        first, second = features.views
        return {"apart": (first * second.roll(1, 0)).sum() * features.image.std()}

    whole = copy.deepcopy(model)
    torch.stack(list(objective(whole(batch), batch).values())).sum().backward()
    chunked_backward(model, objective, batch, chunk_size=3, autocast=nullcontext)
    for (name, value), (_, expected) in zip(model.named_parameters(), whole.named_parameters(), strict=True):
        if expected.grad is not None:
            torch.testing.assert_close(value.grad, expected.grad, msg=name, rtol=1e-5, atol=1e-6)
