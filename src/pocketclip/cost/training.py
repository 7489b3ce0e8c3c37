"""What one sample of a training step costs, forward and backward, accounted layer by layer from a single pass.

A backward pass costs what the forward pass did for every gradient that a layer has to give: one for its weights where
they are trained, one for its input where something below is trained. So a trained layer costs three times its forward
pass, a frozen layer above trained ones twice, and a frozen one with nothing trained below it once.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from pocketclip.asked import AskedModel
from pocketclip.cost.flops import counted_macs
from pocketclip.image_size import ImageSize, height_and_width
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.readout import Modality
from pocketclip.types import Features, ImageTextBatch, Objective, TeacherFeatures


@dataclass(frozen=True)
class SampleWork:
    """What a step does with one image and its captions."""

    image_size: ImageSize
    num_tokens: int
    """Of a caption, padding included."""
    batch_size: int
    """Every image is compared with the texts of so many."""
    embed_dim: int
    trained: frozenset[str]
    """Those of `models.dual_encoder.PARTS` that have a learning rate."""
    captions: int = 1
    text_passes: int = 1
    """Of a caption, such as one more with hidden words."""
    views: int = 1
    """Of an image, those behind the first through the tower alone."""
    cached: frozenset[Modality] = frozenset()
    """Whose tower was run before; its head is all that is left to do."""
    is_chunked: bool = False
    """Gradient caching: every tower makes one more forward pass."""
    is_checkpointed: bool = False
    """Activations are computed again in the backward pass."""


@dataclass(frozen=True)
class SampleMacs:
    """Multiply-accumulates of one sample, by what they are for."""

    forward: float = 0.0
    backward: float = 0.0
    again: float = 0.0
    """Forward passes made a second time: of gradient caching and of activations that were not kept."""
    teachers: float = 0.0
    loss: float = 0.0
    """Of the matrices of all pairs, both directions."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.forward + self.backward + self.again + self.teachers + self.loss


def sample_macs(
    model: DualEncoder, work: SampleWork, objective: Objective | None = None, teachers: Sequence[AskedModel] = ()
) -> SampleMacs:
    """The MACs of one sample of a training step; the model is left as it is.

    Without an `objective` its loss counts as one matrix of all pairs. `teachers` are those that see every batch.
    """
    own = copy.deepcopy(model).requires_grad_(False).train()  # patches, for one, are dropped in training only
    frozen = {id(parameter) for parameter in own.frozen_parameters()}
    for part in work.trained:
        for _, parameter in own.part_parameters(part):
            parameter.requires_grad_(id(parameter) not in frozen)
    for module in own.modules():
        if isinstance(module, _BatchNorm):
            module.eval()  # a batch of one has no statistics
    if work.is_checkpointed:
        own.checkpoint_activations()
    image = _pass(own, "image", work)
    text = _pass(own, "text", work)
    view = _view(own, work) if work.views > 1 else _Tally()
    layers = [(1, image), (work.captions * work.text_passes, text), (work.views - 1, view)]
    forward, backward, repeated = (
        sum(times * getattr(tally, name) for times, tally in layers) for name in ("forward", "backward", "repeated")
    )
    again = repeated + (forward if work.is_chunked else 0)
    taught = sum(_teacher_macs(teacher, work) for teacher in teachers)
    loss = _loss_macs(objective, work, teachers, model)
    return SampleMacs(forward, backward, again, taught, loss)


@dataclass
class _Tally:
    """Of one pass, without any gradient at first."""

    forward: int = 0
    backward: int = 0
    repeated: int = 0


def _pass(model: DualEncoder, modality: Modality, work: SampleWork) -> _Tally:
    """An image or a caption through its tower and head, or through the head alone."""
    device = model.logit_scale.device
    tower, head = model.pathway(modality)
    if modality in work.cached:
        features = torch.zeros(1, tower.feature_dim, device=device)
        return _tally(model, lambda: head(features), repeats=False)
    if modality == "image":
        return _tally(model, lambda: model.encode_image(_pixels(work, device)), repeats=work.is_checkpointed)
    tokens = torch.ones(1, work.num_tokens, dtype=torch.int64, device=device)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    return _tally(model, lambda: model.encode_text(tokens, mask), repeats=work.is_checkpointed)


def _view(model: DualEncoder, work: SampleWork) -> _Tally:
    """One more view of an image, which no head sees."""
    tower, _ = model.pathway("image")
    return _tally(model, lambda: tower(_pixels(work, model.logit_scale.device)), repeats=work.is_checkpointed)


def _pixels(work: SampleWork, device: torch.device) -> Tensor:
    return torch.zeros(1, 3, *height_and_width(work.image_size), dtype=torch.uint8, device=device)


def _tally(model: nn.Module, run: Callable[[], Tensor], *, repeats: bool) -> _Tally:
    """Weighs every module's own work by the gradients that it has to give.

    What is computed again, where the model `repeats` activations, is what a real backward pass does beyond them.
    """
    tally = _Tally()
    with torch.random.fork_rng(), torch.enable_grad(), counted_macs() as counter:
        with _watched(model, counter, tally):
            run()
        rest = counter.get_total_flops() // 2 - tally.forward  # in no module
    tally.forward += rest
    tally.backward += 2 * rest
    if repeats:
        with torch.random.fork_rng(), torch.enable_grad(), counted_macs() as counter:
            output = run()
            if output.requires_grad:
                output.sum().backward()
                tally.repeated = counter.get_total_flops() // 2 - tally.forward - tally.backward
    return tally


@contextmanager
def _watched(model: nn.Module, counter: FlopCounterMode, tally: _Tally) -> Iterator[None]:
    """Adds each module's own MACs, without those of the modules within, as it is left."""
    inside: list[list[int]] = []

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        inside.append([counter.get_total_flops(), 0])

    def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        before, within = inside.pop()
        whole = counter.get_total_flops() - before
        if inside:
            inside[-1][1] += whole
        own = (whole - within) // 2
        weights = [weight for weight in module.parameters(recurse=False) if weight.ndim > 1]
        tally.forward += own
        if not _has_gradient(output):
            return
        learns = any(weight.requires_grad for weight in weights)
        passes = int(learns) + int(_has_gradient((args, kwargs)))
        tally.backward += own * (passes if weights else 2)  # attention multiplies what comes in with itself

    hooks = [module.register_forward_pre_hook(enter, with_kwargs=True) for module in model.modules()]
    hooks += [module.register_forward_hook(leave, with_kwargs=True) for module in model.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _has_gradient(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.requires_grad
    if isinstance(value, dict):
        return any(map(_has_gradient, value.values()))
    return isinstance(value, list | tuple) and any(map(_has_gradient, value))


def _teacher_macs(teacher: AskedModel, work: SampleWork) -> float:
    """A teacher sees the image and every caption at its own size; its own tokenizer gives about as many tokens."""
    images = torch.zeros(1, 3, *teacher.preprocess.shape, dtype=torch.uint8)
    with torch.no_grad(), counted_macs() as counter:
        teacher.embed_images(images)
        if teacher.tokenizer is not None:
            length = min(work.num_tokens, teacher.tokenizer.context_length)
            tokens = torch.ones(work.captions, length, dtype=torch.int64)
            teacher.embed_tokens(tokens, torch.ones_like(tokens, dtype=torch.bool))
        return counter.get_total_flops() / 2


FEW = 8
"""Images of the batch that a loss is counted on; it grows with the square of them, and its learned maps do not."""


def _loss_macs(
    objective: Objective | None, work: SampleWork, teachers: Sequence[AskedModel], model: DualEncoder
) -> float:
    """Of one image among the others of its batch; one matrix of all pairs where the objective asks for more."""
    if objective is not None:
        try:
            few, more = (_count_loss(objective, work, count, teachers, model) / count for count in (FEW, 2 * FEW))
        except (RuntimeError, ValueError, AssertionError, IndexError, TypeError):  # it looks at more than embeddings
            pass
        else:
            return few + (more - few) / FEW * (work.batch_size - FEW)
    gradients = 2 if work.trained else 0
    return (1.0 + gradients) * work.batch_size * work.captions * work.embed_dim


def _count_loss(
    objective: Objective, work: SampleWork, count: int, teachers: Sequence[AskedModel], model: DualEncoder
) -> int:
    device = model.logit_scale.device

    def rows(number: int, width: int = work.embed_dim) -> Tensor:
        return torch.randn(number, width, device=device, requires_grad=True)

    def taught(teacher: AskedModel) -> TeacherFeatures:
        text = None if teacher.tokenizer is None else rows(texts, teacher.embed_dim).detach()
        return TeacherFeatures(rows(count, teacher.embed_dim).detach(), text, 10.0)

    own = copy.deepcopy(objective) if isinstance(objective, nn.Module) else objective  # it may keep what it sees
    texts = count * work.captions
    with torch.random.fork_rng(), torch.enable_grad(), counted_macs() as counter:
        numbers, empty = torch.arange(texts, device=device), torch.zeros(texts, 0, device=device)
        seen = tuple(map(taught, teachers))
        ids = empty.bool(), numbers[:count], numbers
        shown = torch.zeros_like(numbers[:count])  # one person: costs are the same for any
        batch = ImageTextBatch(rows(count), empty, *ids, teachers=seen, identity_ids=shown)
        views = tuple(rows(count, model.width_of_views) for _ in range(work.views - 1))
        scale, bias = torch.tensor(10.0, device=device, requires_grad=True), torch.zeros((), device=device)
        features = Features(rows(count), rows(texts), scale, bias, (), views)
        torch.stack(list(own(features, batch).values())).sum().backward()
        return int(counter.get_total_flops()) // 2
