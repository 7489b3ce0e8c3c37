"""Learning-rate schedules against their formulas."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from pocketclip.errors import UserError
from pocketclip.train.rates import ConstantScheduleConfig, CosineScheduleConfig, PlateauScheduleConfig, is_loss
from pocketclip.train.schedule import build_schedule, rate_factor


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


def test_a_warm_up_of_steps_is_the_same_at_every_length() -> None:
    config = ConstantScheduleConfig(warmup_steps=4)
    assert rates(config, 8)[:5] == rates(config, 800)[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]


@pytest.mark.parametrize(
    ("shape", "expected"), [("linear", [2, 2, 1.5, 1, 0.5]), ("sqrt", [2, 2, 1, 2 - 2**0.5, 2 - 3**0.5])]
)
def test_a_cooldown_begins_at_the_full_rate_and_ends_at_nothing(shape: str, expected: list[float]) -> None:
    config = ConstantScheduleConfig.model_validate({"cooldown": 0.4, "warmup": 0.1, "shape": shape})
    assert rates(config, 10) == pytest.approx([2.0] * 5 + expected)
    assert rate_factor(config, 10, 10) == rate_factor(config, 99, 10) == 0
    assert config.cooldown_begins(10) == 6


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("cooldown", [0.0, 0.2, 0.5, 0.99])
def test_before_its_cooldown_every_run_is_alike(cooldown: float, num_steps: int) -> None:
    config = ConstantScheduleConfig(cooldown=cooldown)
    begins, seen = config.cooldown_begins(num_steps), rates(config, num_steps)
    assert seen[: begins + 1] == [2.0] * len(seen[: begins + 1])
    assert all(later < earlier for earlier, later in pairwise(seen[begins:]))
    assert all(rate > 0 for rate in seen)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup": 0.1, "warmup_steps": 3}, "leave one out"),
        ({"shape": "sqrt"}, "sqrt has no effect without a cooldown"),
        ({"warmup": 0.6, "cooldown": 0.6}, "more than all steps"),
        ({"cooldown": 1.0}, "less than 1"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ConstantScheduleConfig.parse(settings, place="x")


def test_a_warm_up_longer_than_the_run_is_refused() -> None:
    with pytest.raises(UserError, match=r"warmup_steps: of 10 steps 6 are left before the cooldown \(got 7\)"):
        rates(ConstantScheduleConfig(warmup_steps=7, cooldown=0.4), 10)


def test_a_schedule_without_the_new_settings_keeps_its_hash() -> None:
    assert ConstantScheduleConfig().model_dump() == {"kind": "constant", "warmup": 0.0}


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
