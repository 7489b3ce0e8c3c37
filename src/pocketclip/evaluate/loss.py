"""The objective's own value on a validation split, as the small-encoder study reports it."""

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from pocketclip.types import ImageTextBatch, Objective


@torch.inference_mode()
def mean_loss(model: nn.Module, objective: Objective, batches: Iterable[ImageTextBatch]) -> Mapping[str, float]:
    """Mean of each named loss of a model in evaluation mode over batches.

    A contrastive loss depends on the size of the batches, so keep it fixed.
    """
    sums: dict[str, float] = {}
    count = 0
    for count, batch in enumerate(batches, start=1):  # noqa: B007 (the last is the number of batches)
        losses = {name: float(value) for name, value in objective(model(batch), batch).items()}
        for name, value in {**losses, "loss": sum(losses.values())}.items():
            sums[name] = sums.get(name, 0.0) + value
    return {f"val_{name}": total / count for name, total in sums.items()}
