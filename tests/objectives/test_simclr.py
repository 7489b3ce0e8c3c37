"""SLIP's objective: what it sums, and that chunks and ranks learn what one pass would."""

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip import distributed
from pocketclip.config import kinds_of
from pocketclip.losses import LossConfig
from pocketclip.losses.nt_xent import nt_xent_loss
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.tower import ImageTower, TextTower
from pocketclip.objectives.config import ContrastiveObjectiveConfig
from pocketclip.objectives.contrastive import contrastive_loss
from pocketclip.objectives.simclr import WithSimclr
from pocketclip.objectives.uninformed import uninformed_loss
from pocketclip.train.gradient_cache import chunked_backward
from pocketclip.train.parallel import Alone, Replicated, Sharded
from pocketclip.train.step import train_step
from pocketclip.types import ImageTextBatch
from processes import run_ranks

SIMCLR = {"weight": 0.5, "temperature": 0.2, "hidden_width": 9, "width": 3}


class Tower(ImageTower, TextTower):
    feature_dim = 12

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(width, 12)
        self.layers = nn.ModuleList([nn.Linear(12, 12) for _ in range(2)])

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        del mask
        values = self.embed(values)
        for layer in self.layers:
            values = values + layer(values).tanh()
        return values


def config(loss: str = "clip", **simclr: Any) -> ContrastiveObjectiveConfig:
    values = {"loss": {"kind": loss}, "simclr": {**SIMCLR, **simclr}}
    return ContrastiveObjectiveConfig.parse(values, place="test")


def make(loss: str = "clip", count: int = 10) -> tuple[DualEncoder, WithSimclr, ImageTextBatch]:
    torch.manual_seed(0)
    bias = -2.0 if loss == "sigmoid" else None
    model = DualEncoder(Tower(6), Tower(5), nn.Linear(12, 4), nn.Linear(12, 4), logit_bias=bias).double()
    objective = config(loss).build(embed_dim=4, feature_dim=model.width_of_views)
    captions = 2 if loss in ("sigmoid", "multi_positive") else 1
    batch = ImageTextBatch(
        images=torch.randn(count, 6, dtype=torch.float64),
        tokens=torch.randn(count * captions, 5, dtype=torch.float64),
        token_mask=torch.ones(count * captions, 0, dtype=torch.bool),
        image_ids=torch.arange(count),
        caption_ids=torch.arange(count * captions),
        views=tuple(torch.randn(count, 6, dtype=torch.float64) for _ in range(2)),
    )
    assert isinstance(objective, WithSimclr)
    return model, objective, batch


@pytest.mark.parametrize("loss", kinds_of(LossConfig))
def test_the_sum_is_the_loss_over_pairs_and_the_weighted_term(loss: str) -> None:
    model, objective, batch = make(loss)
    features = model(batch)
    losses = objective(features, batch)
    assert list(losses) == [loss, "simclr"]
    plain = ContrastiveObjectiveConfig(loss={"kind": loss})
    torch.testing.assert_close(losses[loss], contrastive_loss(plain.loss, features, batch))
    first, second = (objective.projector(model.image_encoder(view).float()) for view in batch.views)
    expected = 0.5 * nt_xent_loss(F.normalize(first, dim=1), F.normalize(second, dim=1), 0.2)
    torch.testing.assert_close(losses["simclr"], expected, check_dtype=False)


def gradients(model: nn.Module, objective: nn.Module) -> dict[str, Tensor]:
    both = nn.ModuleList([model, objective])
    return {name: value.grad.clone() for name, value in both.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("chunk", [1, 3, 10])
@pytest.mark.parametrize("loss", ["clip", "multi_positive"])
def test_chunks_give_the_gradient_of_the_whole(loss: str, chunk: int) -> None:
    """The projector's batch norms see all of the batch, whatever the towers see at once."""
    model, objective, batch = make(loss)
    whole, whole_objective = copy.deepcopy(model), copy.deepcopy(objective)
    torch.stack(list(whole_objective(whole(batch), batch).values())).sum().backward()
    chunked_backward(model, objective, batch, chunk_size=chunk, autocast=nullcontext)
    expected, actual = gradients(whole, whole_objective), gradients(model, objective)
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-4, atol=1e-6, msg=name)  # features pass in float32


def curve(rank: int, way: str, chunk_size: int | None) -> list[float]:
    """The loss and its term over some steps; the ranks' shares are of different size."""
    model, objective, batch = make(count=9)
    model = model.float()
    parallel = {"alone": Alone, "replicated": Replicated, "sharded": Sharded}[way](model)
    shares = (5, 4) if distributed.world_size() == 2 else (9,)
    start = sum(shares[:rank])
    whole = ImageTextBatch(
        images=batch.images.float(),
        tokens=batch.tokens.float(),
        token_mask=batch.token_mask,
        image_ids=batch.image_ids,
        caption_ids=batch.caption_ids,
        views=tuple(view.float() for view in batch.views),
    )
    part = whole.pairs(start, start + shares[rank])
    part.__dict__["shares"] = shares
    optimizer = torch.optim.SGD([*parallel.model.parameters(), *objective.parameters()], lr=0.1)
    values = []
    for _ in range(6):
        scalars = train_step(
            parallel, objective, part, optimizer, autocast=nullcontext, max_grad_norm=1.0, chunk_size=chunk_size
        )
        shared = torch.stack([scalars["clip"], scalars["simclr"]])
        distributed.average_in_place([shared])
        values += shared.tolist()
    return values


@pytest.mark.parametrize(("way", "chunk_size"), [("replicated", None), ("replicated", 2), ("sharded", None)])
def test_ranks_follow_the_curve_of_one_process(way: str, chunk_size: int | None) -> None:
    expected = curve(0, "alone", None)
    assert expected[-1] < expected[1]
    for actual in run_ranks(curve, 2, way, chunk_size):
        assert actual == pytest.approx(expected, rel=2e-4)


def test_it_needs_three_views_and_is_measured_without_them() -> None:
    objective = config()
    assert objective.needs.views == 3
    assert objective.validation == ContrastiveObjectiveConfig()
    assert uninformed_loss(objective, 8) is None
    assert uninformed_loss(objective.validation, 8) is not None


def test_without_it_the_settings_are_written_as_before() -> None:
    assert "simclr" not in ContrastiveObjectiveConfig().model_dump()
