"""The objective's own value on a validation split, as the small-encoder study reports it."""

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from pocketclip.types import ImageTextBatch, Objective


@torch.inference_mode()
def mean_loss(model: nn.Module, objective: Objective, batches: Iterable[ImageTextBatch]) -> Mapping[str, float]:
    """Mean of each named loss over batches; a contrastive loss depends on their size, so keep it fixed.

    Args:
        model: maps a batch to features; in evaluation mode.
        objective: what is measured.
        batches: of one size.
    """
    sums: dict[str, float] = {}
    count = 0
    for batch in batches:
        losses = {name: float(value) for name, value in objective(model(batch), batch).items()}
        losses["loss"] = sum(losses.values())
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value
        count += 1
    return {f"val_{name}": total / count for name, total in sums.items()} if count else {}
