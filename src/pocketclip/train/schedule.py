"""Learning-rate schedules."""

import math
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from pocketclip.errors import UserError
from pocketclip.train.budget import StepPlan
from pocketclip.train.rates import (
    ConstantScheduleConfig,
    CosineScheduleConfig,
    PlateauScheduleConfig,
    ScheduleConfig,
    is_loss,
)


def rate_factor(config: CosineScheduleConfig | ConstantScheduleConfig, step: float, num_steps: int) -> float:
    """What the rate is multiplied with in a step, counted from 0; a plan that changed has steps in between."""
    warmup = warmup_steps(config, num_steps)
    if step < warmup:
        return (step + 1) / warmup
    if isinstance(config, ConstantScheduleConfig):
        first = config.cooldown_begins(num_steps)
        if step <= first:
            return 1.0
        over = min(1.0, (step - first) / (num_steps - first)) if first < num_steps else 0.0
        return 1 - (math.sqrt(over) if config.shape == "sqrt" else over)
    progress = (step - warmup) / max(1, num_steps - warmup)
    return config.final + (1 - config.final) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def warmup_steps(config: ScheduleConfig, num_steps: int) -> int:
    """Steps in which the rate rises."""
    if isinstance(config, PlateauScheduleConfig):
        return 0
    if isinstance(config, ConstantScheduleConfig) and config.warmup_steps is not None:
        return config.warmup_steps
    return round(config.warmup * num_steps)


class PlannedRates:
    """Sets the rate of each step by the step's number in the plan.

    A batch that is passed over, since its items are broken, is a step of the plan that updates nothing. torch's own
    scheduler counts updates of the optimizer in its place, and warns where the first one is missing.
    """

    def __init__(
        self, optimizer: Optimizer, config: CosineScheduleConfig | ConstantScheduleConfig, num_steps: int
    ) -> None:
        self.optimizer, self.config, self.plan = optimizer, config, StepPlan(num_steps)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self._go_to(0)

    def _go_to(self, step: int) -> None:
        self.next_step, position = step, self.plan.position(step)
        if isinstance(self.config, ConstantScheduleConfig) and (warmup := self.config.warmup_steps) is not None:
            position = step if step < warmup else max(warmup, position)  # those steps are as many in every plan
        factor = rate_factor(self.config, position, self.plan.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def step(self) -> None:
        """Go on to the next step's rate."""
        self._go_to(self.next_step + 1)

    def follow(self, plan: StepPlan) -> None:
        """Go on by another plan, from the step that comes next."""
        self.plan = plan
        self._go_to(self.next_step)

    def state_dict(self) -> dict[str, Any]:
        """The number of the step that comes next, under torch's name for it."""
        return {"last_epoch": self.next_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._go_to(int(state["last_epoch"]))


def build_schedule(config: ScheduleConfig, optimizer: Optimizer, num_steps: int) -> PlannedRates | ReduceLROnPlateau:
    """A scheduler: stepped after every step of the plan, or after every evaluation for `plateau`."""
    if isinstance(config, PlateauScheduleConfig):
        mode: Literal["min", "max"] = "min" if is_loss(config.metric) else "max"
        return ReduceLROnPlateau(
            optimizer, mode=mode, factor=config.factor, patience=config.patience, threshold=config.min_delta
        )
    if isinstance(config, ConstantScheduleConfig) and config.warmup_steps is not None:
        first = config.cooldown_begins(num_steps)
        if config.warmup_steps > first:
            raise UserError(
                f"schedule.warmup_steps: of {num_steps} steps {first} are left before the cooldown (got "
                f"{config.warmup_steps})."
            )
    return PlannedRates(optimizer, config, num_steps)
