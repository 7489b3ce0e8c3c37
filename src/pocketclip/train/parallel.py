"""How a model runs on its rank: alone, as one of several replicas, or with its weights spread over the ranks.

Replicas are DistributedDataParallel: the gradients are averaged while the backward pass is still going on. Spread
weights are FSDP2 (`fully_shard`): a rank holds a part of every tensor and gathers a block's weights when its turn
comes. The temperature and the bias are single numbers, which neither treats well; their gradients are averaged here.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from pocketclip import distributed
from pocketclip.errors import UserError
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.train.config import TrainConfig
from pocketclip.train.rates import AdafactorConfig
from pocketclip.train.still_norms import StillNorms
from pocketclip.types import Features, ImageTextBatch, LayerFeatures, WordFeatures


class Alone:
    """One process: the model as it is; it ends with the trained weights. The other two ways fill in what differs."""

    def __init__(self, model: DualEncoder) -> None:
        self.given = model
        self.model = model
        """What the optimizer trains."""

    @cached_property
    def still_norms(self) -> StillNorms:
        """Batch norms that a step computes with the convolution before them, chosen when the first step begins."""
        return StillNorms.of(self.model)

    def forward(self, batch: ImageTextBatch) -> Features:
        """The features of this rank's share, ready for a backward pass."""
        features: Features = self.model(batch)
        return features

    @contextmanager
    def delayed(self) -> Iterator[None]:
        """Within, backward passes only add up; the first one after it tells the other ranks."""
        yield

    def finish_gradients(self, others: Sequence[Tensor] = ()) -> None:
        """After the last backward pass of a step: average over ranks what is not part of the towers and heads.

        That are single numbers, the pair head, which works on all features at once, and parameters beside the model's.
        """
        head = [] if self.model.pair_head is None else list(self.model.pair_head.parameters())
        whole = [self.model.logit_scale, self.model.logit_bias, *head, *others]
        distributed.average_in_place([parameter.grad for parameter in whole if parameter.grad is not None])

    def clip(self, parameters: Sequence[Tensor], max_norm: float) -> Tensor:
        """Scale the gradients down to a norm; returns the norm they had."""
        return nn.utils.clip_grad_norm_(parameters, max_norm, foreach=True)

    def whole_model(self) -> DualEncoder:
        """The model with all of its weights as they are now."""
        return self.given

    def state_dict(self) -> dict[str, Any]:
        """The model's weights, whole."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.model.load_state_dict(state)

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The optimizer's state, whole."""
        return optimizer.state_dict()

    def load_optimizer_state(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """The inverse of `optimizer_state`."""
        optimizer.load_state_dict(state)


class Replicated(Alone):
    """Every rank holds the whole model."""

    @cached_property
    def replica(self) -> DistributedDataParallel:
        """The towers and heads; made with the first batch, when it is known which parameters are trained."""
        return DistributedDataParallel(_Parts(self.model), forward_sync_buffers=False, gradient_as_bucket_view=True)

    def forward(self, batch: ImageTextBatch) -> Features:
        image, text, layers, words, views = self.replica(batch)
        numbers = self.model.logit_scale.exp(), self.model.logit_bias
        features = Features(image, text, *numbers, layers, views, words=words)
        return self.model.judged(features, batch)

    @contextmanager
    def delayed(self) -> Iterator[None]:
        with self.replica.no_sync():
            yield


class _Parts(nn.Module):
    """All of a model but its single numbers and its pair head."""

    def __init__(self, model: DualEncoder) -> None:
        super().__init__()
        self.parts = nn.ModuleList(model.encoding_parts())
        self._encode, self._encode_views = model.encode, model.encode_views

    def forward(
        self, batch: ImageTextBatch
    ) -> tuple[Tensor, Tensor, tuple[LayerFeatures, ...], WordFeatures | None, tuple[Tensor, ...]]:
        return *self._encode(batch), self._encode_views(batch)


def check_shardable(config: TrainConfig, name: str) -> None:
    """Refuse a stage's settings that need what no rank holds when the weights are spread."""
    if config.ema_decay is not None:
        raise UserError(f"{name}: ema_decay averages whole weights, which no rank holds with --fsdp; leave one off.")
    if isinstance(config.optimizer, AdafactorConfig):
        raise UserError(
            f"{name}: adafactor keeps means of whole rows and columns, which no rank holds with --fsdp; take adamw, or "
            "leave --fsdp out."
        )


class Sharded(Alone):
    """Every rank holds a part of each weight, and of the optimizer's state; whole ones suit any number of ranks."""

    still_norms = StillNorms()  # weights are there while their own module runs, and no longer

    def __init__(self, model: DualEncoder) -> None:
        super().__init__(model)
        self.model = copy.deepcopy(model)  # the given one stays whole, for evaluation and for the end
        for parameter in self.model.parameters():
            parameter.data = parameter.data.contiguous()  # FSDP2 takes no channels_last weights
        self.parts: list[FSDPModule] = []
        for part in self.model.encoding_parts():
            if any(True for _ in part.parameters()):
                for block in blocks_of(part):
                    fully_shard(block)
                self.parts.append(fully_shard(part))

    def forward(self, batch: ImageTextBatch) -> Features:
        if batch.masked is not None:  # its states are no output of a whole part, which gathers the weights
            raise UserError("objective.terms: masked_language does not go with --fsdp; leave one of them out.")
        return super().forward(batch)

    @contextmanager
    def delayed(self) -> Iterator[None]:
        for part in self.parts:
            part.set_requires_gradient_sync(False)
        yield
        for part in self.parts:
            part.set_requires_gradient_sync(True)

    def clip(self, parameters: Sequence[Tensor], max_norm: float) -> Tensor:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        groups = [[grad for grad in gradients if isinstance(grad, DTensor) == spread] for spread in (True, False)]
        norms = [nn.utils.get_total_norm(group) for group in groups if group]
        total = torch.stack([norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]).norm()
        scale = (max_norm / (total + 1e-6)).clamp(max=1.0)
        for grad in gradients:
            (grad.to_local() if isinstance(grad, DTensor) else grad).mul_(scale)
        return total  # type: ignore[no-any-return]

    def whole_model(self) -> DualEncoder:
        self.given.load_state_dict(self.state_dict())
        return self.given

    def state_dict(self) -> dict[str, Any]:
        return dict(_whole(self.model.state_dict()))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        parts = {name: _like(state[name], own) for name, own in self.model.state_dict().items()}
        self.model.load_state_dict(parts)

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        return dict(_whole(optimizer.state_dict()))

    def load_optimizer_state(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        parts = {
            number: {name: _like(value, parameters[number]) for name, value in values.items()}
            for number, values in state["state"].items()
        }
        optimizer.load_state_dict({**state, "state": parts})


def agree(batch: ImageTextBatch, asked: bool) -> tuple[ImageTextBatch, bool]:
    """What ranks have to know of each other: the batch's shares and broken items, and whether to stop after it."""
    rows = distributed.gather_numbers(len(batch), len(batch.broken), int(asked))
    shares, num_broken, stops = zip(*rows, strict=True)
    broken = batch.broken
    if any(num_broken):
        broken = [message for messages in distributed.gather_objects(broken) for message in messages]
    return replace(batch, shares=shares, broken=broken), any(stops)


def blocks_of(part: nn.Module) -> list[nn.Module]:
    """The children of a tower's outermost lists of layers: what is gathered and let go of together."""
    blocks: list[nn.Module] = []
    for child in part.children():
        if isinstance(child, nn.ModuleList | nn.Sequential):
            blocks += [layer for layer in child if any(True for _ in layer.parameters())]
        else:
            blocks += blocks_of(child)
    return blocks


def _whole(state: Any) -> Any:
    """Every spread tensor of a nested state, gathered."""
    if isinstance(state, dict):
        return {name: _whole(value) for name, value in state.items()}
    if isinstance(state, list):
        return [_whole(value) for value in state]
    return state.full_tensor() if isinstance(state, DTensor) else state


def _like(value: Any, own: Any) -> Any:
    """A whole tensor spread as `own` is, where it has its shape."""
    if isinstance(own, DTensor) and isinstance(value, Tensor) and value.shape == own.shape:
        return distribute_tensor(value.to(own.device), own.device_mesh, own.placements, src_data_rank=None)
    return value


def on_ranks(model: DualEncoder, config: TrainConfig, name: str, *, with_sharding: bool) -> Alone:
    """A stage's model on one process, on several that hold it whole, or on several that hold a part of it each.

    Raises:
        UserError: settings of the stage do not go with sharding.
    """
    if with_sharding:
        check_shardable(config, name)
    if distributed.world_size() == 1:
        return Alone(model)
    return Sharded(model) if with_sharding else Replicated(model)
