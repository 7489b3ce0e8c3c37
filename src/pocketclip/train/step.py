"""One update of the model."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.train.gradient_cache import chunked_backward
from pocketclip.train.parallel import Alone
from pocketclip.types import ImageTextBatch, Objective


def learned_part(objective: Objective) -> nn.Module:
    """What an objective learns itself, such as maps to a teacher's width: trained and kept, never shipped."""
    return objective if isinstance(objective, nn.Module) else nn.Module()


def train_step(
    model: DualEncoder | Alone,
    objective: Objective,
    batch: ImageTextBatch,
    optimizer: torch.optim.Optimizer,
    *,
    autocast: Callable[[], AbstractContextManager[None]],
    max_grad_norm: float | None,
    chunk_size: int | None = None,
) -> dict[str, Tensor]:
    """Update the model once; return scalars that are still on the device (no sync here).

    The model is in training mode, its frozen parts in evaluation mode, or `model` says how it runs on this rank. The
    optimizer is over an objective's own parameters, too. `autocast` opens the number type of the forward pass,
    gradients are scaled down to `max_grad_norm`, and `chunk_size` is the images of a pass through the towers.
    """
    parallel = model if isinstance(model, Alone) else Alone(model)
    optimizer.zero_grad(set_to_none=True)
    with parallel.still_norms.folded():
        if chunk_size is None or chunk_size >= max(batch.shares, default=len(batch)):
            losses = whole_backward(parallel, objective, batch, autocast=autocast)
        else:
            losses = chunked_backward(parallel, objective, batch, chunk_size=chunk_size, autocast=autocast)
    parallel.finish_gradients(list(learned_part(objective).parameters()))
    scalars = {**losses, "loss": torch.stack(list(losses.values())).sum()}
    with record_function("optimizer"):
        if max_grad_norm is not None:
            trainable = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            scalars["grad_norm"] = parallel.clip(trainable, max_grad_norm)
        optimizer.step()
        parallel.model.clamp_logit_scale()
    return {name: value.detach() for name, value in scalars.items()}


def whole_backward(
    parallel: Alone,
    objective: Objective,
    batch: ImageTextBatch,
    *,
    autocast: Callable[[], AbstractContextManager[None]],
) -> dict[str, Tensor]:
    """Add the gradients of a batch, all in one pass, to the model's parameters; returns the losses."""
    with autocast():
        features = parallel.forward(batch)
    with record_function("loss"):
        losses = dict(objective(features, batch))
        loss = torch.stack(list(losses.values())).sum()
    with record_function("backward"):
        loss.backward()
    return losses
