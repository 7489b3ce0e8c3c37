"""A rung of a study: where a run waits, with its scores so far, for the others to come as far."""

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import nn

from pocketclip import distributed
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.train.config import TrainConfig
from pocketclip.train.modes import average_running_statistics, set_modes
from pocketclip.train.progress import Progress


class Climber(Protocol):
    """What a rung needs of a stage in training."""

    model: DualEncoder
    config: TrainConfig
    progress: Progress
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None
    until: float
    """Share of the steps."""

    def evaluated_model(self) -> DualEncoder:
        """The model that is measured."""

    def save(self) -> None:
        """Write a checkpoint."""


class RungReached(Exception):  # noqa: N818 (as was asked for)
    """A run has come as far as it was to come for now; a checkpoint is there, and `resume` goes on."""

    def __init__(self, step: int, scores: dict[str, float]) -> None:
        super().__init__(f"waits at step {step}")
        self.step, self.scores = step, scores


def validation_scores(trainer: Climber) -> dict[str, float]:
    """What the weights that would be kept now score on the validation split."""
    assert trainer.evaluate is not None
    average_running_statistics(trainer.model)
    model = trainer.evaluated_model()
    model.eval()
    values = distributed.gather_objects(dict(trainer.evaluate(model)))[0]  # the last bit decides on all ranks alike
    set_modes(trainer.model, trainer.config)
    return values


def wait_at_rung(trainer: Climber, num_steps: int) -> None:
    """Where the share of the steps is done, leave a checkpoint and raise `RungReached` with the scores.

    They are measured behind the checkpoint, so that they change nothing of what comes after, neither draws nor what
    chooses weights or rates; a loss that is not finite is found before.
    """
    step = trainer.progress.step
    if trainer.until < 1 and step >= max(1, round(trainer.until * num_steps)):
        trainer.save()
        raise RungReached(step, validation_scores(trainer))
