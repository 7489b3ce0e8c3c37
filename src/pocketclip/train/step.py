"""One update of the model."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.train.gradient_cache import chunked_backward
from pocketclip.types import ImageTextBatch, Objective


def train_step(
    model: DualEncoder,
    objective: Objective,
    batch: ImageTextBatch,
    optimizer: torch.optim.Optimizer,
    *,
    autocast: Callable[[], AbstractContextManager[None]],
    max_grad_norm: float | None,
    chunk_size: int | None = None,
) -> dict[str, Tensor]:
    """Update the model once; return scalars that are still on the device (no sync here).

    Args:
        model: in training mode, frozen parts in evaluation mode.
        objective: features and batch to named, weighted losses.
        batch: on the model's device.
        optimizer: over the trainable parameters.
        autocast: opens the number type of the forward pass.
        max_grad_norm: gradients are scaled down to this norm; None leaves them.
        chunk_size: images a pass through the towers; None runs the batch at once.
    """
    optimizer.zero_grad(set_to_none=True)
    if chunk_size is None or chunk_size >= len(batch):
        with autocast():
            features = model(batch)
        with record_function("loss"):
            losses = dict(objective(features, batch))
            loss = torch.stack(list(losses.values())).sum()
        with record_function("backward"):
            loss.backward()
    else:
        losses = chunked_backward(model, objective, batch, chunk_size=chunk_size, autocast=autocast)
        loss = torch.stack(list(losses.values())).sum()
    scalars = {**losses, "loss": loss}
    with record_function("optimizer"):
        if max_grad_norm is not None:
            trainable = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            scalars["grad_norm"] = nn.utils.clip_grad_norm_(trainable, max_grad_norm, foreach=True)
        optimizer.step()
        model.clamp_logit_scale()
    return {name: value.detach() for name, value in scalars.items()}
