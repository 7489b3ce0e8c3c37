"""What a stage of training has reached."""

from dataclasses import dataclass, field
from typing import Any

from pocketclip.errors import UserError, and_known
from pocketclip.train.rates import is_loss


@dataclass
class Progress:
    """All of it is in a checkpoint."""

    step: int = 0
    best: float | None = None
    best_step: int = 0
    evaluations_since_best: int = 0
    stopped: bool = False
    evaluation: dict[str, float] = field(default_factory=dict)
    num_evaluations: int = 0
    broken: list[str] = field(default_factory=list)
    metrics_bytes: int = 0
    seconds_waiting: float = 0.0
    """Of the training seconds, those in which no batch was ready."""
    spent: float = 0.0
    """Seconds of the whole run so far, without its pauses."""
    plan: dict[str, Any] = field(default_factory=dict)
    """The fields of the stage's `StepPlan`."""
    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "validate": 0.0})

    def metric(self, name: str, stage: str) -> float:
        """A metric of the newest evaluation; a UserError where it was not measured."""
        if name not in self.evaluation:
            raise UserError(f"{stage}: no validation metric '{name}'.{and_known(name, self.evaluation)}")
        return self.evaluation[name]

    def is_best(self, name: str, stage: str) -> bool:
        """Count the newest evaluation as the best so far, or as one more since the best."""
        value = self.metric(name, stage)
        if self.best is None or (value < self.best if is_loss(name) else value > self.best):
            self.best, self.best_step, self.evaluations_since_best = value, self.step, 0
            return True
        self.evaluations_since_best += 1
        return False
