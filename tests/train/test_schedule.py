"""Learning-rate schedules against their formulas."""

import math

import pytest
import torch
from torch import nn

from pocketclip.train.config import ConstantScheduleConfig, CosineScheduleConfig, PlateauScheduleConfig
from pocketclip.train.schedule import build_schedule, is_loss, rate_factor


def rates(config: CosineScheduleConfig | ConstantScheduleConfig, num_steps: int) -> list[float]:
    """The rate of every step, as the optimizer sees it."""
    optimizer = torch.optim.AdamW(nn.Linear(1, 1).parameters(), lr=2.0)
    schedule = build_schedule(config, optimizer, num_steps)
    seen = []
    for _ in range(num_steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_the_rate_is_that_of_the_steps_number_and_outlives_a_checkpoint() -> None:
    config, optimizer = CosineScheduleConfig(), torch.optim.AdamW(nn.Linear(1, 1).parameters(), lr=2.0)
    schedule = build_schedule(config, optimizer, 40)
    for _ in range(7):
        schedule.step()  # no update of the optimizer between them
    other = torch.optim.AdamW(nn.Linear(1, 1).parameters(), lr=2.0)
    again = build_schedule(config, other, 40)
    torch_state = torch.optim.lr_scheduler.LambdaLR(other, lambda step: 1.0).state_dict()
    for state in (schedule.state_dict(), {**torch_state, "last_epoch": 7}):  # older checkpoints have torch's own
        again.load_state_dict(state)
        assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] == 2.0 * rate_factor(config, 7, 40)


def test_warm_up_is_linear_and_reaches_the_peak() -> None:
    assert rates(ConstantScheduleConfig(warmup=0.5), 8) == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0]


def test_cosine_follows_its_formula_to_the_final_share() -> None:
    config = CosineScheduleConfig(warmup=0.2, final=0.1)
    for step in range(2, 10):
        share = (step - 2) / 8
        expected = 0.1 + 0.9 * (1 + math.cos(math.pi * share)) / 2
        assert rate_factor(config, step, 10) == pytest.approx(expected)
    assert rate_factor(config, 10, 10) == pytest.approx(0.1)


def test_plateau_lowers_the_rate_after_patience() -> None:
    optimizer = torch.optim.AdamW(nn.Linear(1, 1).parameters(), lr=1.0)
    schedule = build_schedule(PlateauScheduleConfig(patience=1, factor=0.8), optimizer, 100)
    seen = []
    for loss in (1.0, 0.9, 0.9, 0.9, 0.9, 0.9):
        schedule.step(loss)
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx([1.0, 1.0, 1.0, 0.8, 0.8, 0.64])


@pytest.mark.parametrize(("min_delta", "rate"), [(1e-4, 1.0), (0.05, 0.8)])
def test_a_change_below_min_delta_is_not_better(min_delta: float, rate: float) -> None:
    optimizer = torch.optim.AdamW(nn.Linear(1, 1).parameters(), lr=1.0)
    schedule = build_schedule(PlateauScheduleConfig(patience=0, min_delta=min_delta), optimizer, 100)
    for loss in (1.0, 0.99):
        schedule.step(loss)
    assert optimizer.param_groups[0]["lr"] == rate


def test_plateau_watches_a_recall_upwards() -> None:
    optimizer = torch.optim.AdamW(nn.Linear(1, 1).parameters(), lr=1.0)
    schedule = build_schedule(PlateauScheduleConfig(metric="mean_recall", patience=0), optimizer, 100)
    schedule.step(0.1)
    schedule.step(0.2)
    assert optimizer.param_groups[0]["lr"] == 1.0
    schedule.step(0.2)
    assert optimizer.param_groups[0]["lr"] == 0.8


@pytest.mark.parametrize(
    ("name", "smaller_is_better"),
    [("val_loss", True), ("val_clip", True), ("text_to_image_median_rank", True), ("mean_recall", False)],
)
def test_direction_of_a_metric(name: str, smaller_is_better: bool) -> None:
    assert is_loss(name) is smaller_is_better
