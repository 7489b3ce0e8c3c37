"""Which parts of a model learn in a step and which stand still: modes, and the running averages of batch norm."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pocketclip import distributed
from pocketclip.models.dual_encoder import PARTS, DualEncoder
from pocketclip.train.config import TrainConfig


def set_modes(model: DualEncoder, config: TrainConfig) -> None:
    """Trained parts in training mode, frozen parts as in inference."""
    model.train()
    frozen: list[nn.Module] = list(batch_norms(model)) if config.batch_norm == "frozen" else []
    for part in PARTS:
        if getattr(config.learning_rate, part) is None:
            frozen += model.head_modules() if part == "heads" else [getattr(model, part)]
    for module in frozen:
        module.eval()


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Of any number of dimensions."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def average_running_statistics(model: nn.Module) -> None:
    """Each rank's batch norms saw its own shares; from here on all know the mean."""
    values = [value for norm in batch_norms(model) for value in (norm.running_mean, norm.running_var)]
    distributed.average_in_place([value for value in values if value is not None])


@contextmanager
def without_running_statistics(model: nn.Module) -> Iterator[None]:
    """Within, a pass counts in no batch norm's running averages."""
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in batch_norms(model)]
    for norm, _, count in before:
        norm.momentum = 0.0
        if count is not None:
            norm.num_batches_tracked = count.clone()
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count
