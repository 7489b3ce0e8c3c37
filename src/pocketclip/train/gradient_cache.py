"""Exact gradients of a large contrastive batch in the memory of a small one.

Splitting a contrastive batch would change its negatives. Instead the towers run twice: first chunk by chunk without
gradients, to get every feature; the loss then gives the gradient at each feature; and a second pass, with the random
state of the first, carries it into the towers. Reference: GradCache, https://arxiv.org/abs/2101.06983.

Batch norm sees one chunk at a time, so with `batch_norm: train` its statistics are those of a chunk (of a rank's chunk,
where there are several ranks), and the gradient is exact for those; train with `batch_norm: frozen` for the exact
gradient of the whole batch. Running averages count each chunk once.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.checkpoint import get_device_states, set_device_states

from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.train.modes import without_running_statistics
from pocketclip.train.parallel import Alone
from pocketclip.types import Features, ImageTextBatch, LayerFeatures, Objective, WordFeatures


def chunked_backward(
    model: DualEncoder | Alone,
    objective: Objective,
    batch: ImageTextBatch,
    *,
    chunk_size: int,
    autocast: Callable[[], AbstractContextManager[None]],
) -> dict[str, Tensor]:
    """Add the gradients of the whole batch's objective to the model's parameters; returns the losses.

    Any objective works that needs features only: it is computed once, over all of them. Equal to the plain backward
    pass up to rounding. `chunk_size` is the images of a pass at most, of chunks of like size; the rest is as for
    `train_step`.
    """
    parallel = model if isinstance(model, Alone) else Alone(model)
    model = parallel.model
    num_chunks = -(-max(batch.shares, default=len(batch)) // chunk_size)  # the same on every rank
    chunks = [batch.pairs(start, stop) for start, stop in chunk_bounds(len(batch), num_chunks)]
    states, chunk_outputs = [], []
    with torch.no_grad(), without_running_statistics(model):
        for chunk in chunks:
            states.append((torch.get_rng_state(), *get_device_states(batch.images)))
            with autocast():
                features = model(chunk)
            chunk_outputs.append([output.float() for output in _outputs(features)])
    whole = [torch.cat(parts).requires_grad_() for parts in zip(*chunk_outputs, strict=True)]
    features = _as_features(model, batch, whole)
    losses = dict(objective(model.judged(features, batch), batch))
    torch.stack(list(losses.values())).sum().backward()  # fills the gradients of features and temperature
    passes = zip(chunks, states, _split_gradients(whole, chunk_outputs), strict=True)
    for number, (chunk, state, grads) in enumerate(passes):
        torch.set_rng_state(state[0])
        set_device_states(*state[1:])
        with nullcontext() if number == len(chunks) - 1 else parallel.delayed():
            with autocast():
                features = parallel.forward(chunk)
            outputs = zip(_outputs(features), grads, strict=True)
            needed = [(output, grad) for output, grad in outputs if output.requires_grad and grad is not None]
            torch.autograd.backward([output for output, _ in needed], [grad for _, grad in needed])
    return {name: value.detach() for name, value in losses.items()}


def _outputs(features: Features) -> list[Tensor]:
    """What depends on the pairs: images, texts, both again for each inner layer, further views, places and words."""
    layers = [side for layer in features.layers for side in (layer.image, layer.text)]
    words = [] if features.words is None else [features.words.texts, features.words.images]
    return [features.image, features.text, *layers, *features.views, *words]


def _as_features(model: DualEncoder, batch: ImageTextBatch, outputs: Sequence[Tensor]) -> Features:
    """The inverse of `_outputs`, with the model's numbers."""
    rest, words = list(outputs), None
    if batch.masked is not None:
        *rest, texts, images = rest
        words = WordFeatures(texts, images)
    num_layers = len(rest) - len(batch.views)
    (image, text, *layers), views = rest[:num_layers], tuple(rest[num_layers:])
    layer_features = tuple(map(LayerFeatures, layers[::2], layers[1::2]))
    numbers = model.logit_scale.exp(), model.logit_bias
    return Features(image, text, *numbers, layer_features, views, words=words)


def _split_gradients(whole: Sequence[Tensor], chunk_outputs: Sequence[Sequence[Tensor]]) -> list[list[Tensor | None]]:
    """The gradient at each output of each chunk; None of an output that the objective does not look at."""
    columns = []
    for number, value in enumerate(whole):
        sizes = [len(outputs[number]) for outputs in chunk_outputs]
        columns.append([None] * len(sizes) if value.grad is None else value.grad.split(sizes))
    return [list(row) for row in zip(*columns, strict=True)]


def chunk_bounds(num_images: int, num_chunks: int) -> list[tuple[int, int]]:
    """First image and end of each chunk, of like size: a last chunk of one image would break batch norm."""
    return list(pairwise(num_images * number // num_chunks for number in range(num_chunks + 1)))
