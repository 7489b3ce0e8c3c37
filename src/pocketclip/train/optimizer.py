"""The optimizer, with a rate for each part of the model; a part without a rate is frozen. Beside it an average."""

from collections.abc import Sequence
from itertools import product
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pocketclip.errors import UserError, require
from pocketclip.models.dual_encoder import PARTS, DualEncoder
from pocketclip.train.rates import AdafactorConfig, LearningRates, OptimizerConfig

LEAST_TO_FACTOR = 32
"""Rows and columns of a matrix that Adafactor keeps the means of, as in Big Vision; of smaller ones it keeps all."""


def build_optimizer(
    model: DualEncoder, config: OptimizerConfig, rates: LearningRates, others: Sequence[nn.Parameter] = ()
) -> Optimizer:
    """The optimizer; parts without a rate and frozen layers stop requiring gradients.

    Each part has two groups, with and without weight decay; single numbers have their own, since FSDP2 does not spread
    them and one fused update takes tensors of one kind. An objective's own parameters, the `others`, are the part
    `objective`, at the heads' rate, which must then be given.
    """
    if others and rates.heads is None:
        raise UserError(
            "learning_rate.heads: is off, but the objective has learned parts of its own, which go at that rate; "
            "give it one."
        )
    groups: list[dict[str, Any]] = []
    spared = set() if config.decay_embeddings else {id(parameter) for parameter in embeddings_of(model)}
    frozen = {id(parameter) for parameter in model.frozen_parameters()}
    for part in PARTS:
        rate = getattr(rates, part)
        parameters = [parameter for _, parameter in model.part_parameters(part)]
        for parameter in parameters:
            parameter.requires_grad_(rate is not None and id(parameter) not in frozen)
        if rate is None:
            continue
        for share, members in _layers(model, part, parameters, rates.layer_decay):
            trained = [p for p in members if p.requires_grad]
            groups += _groups(trained, config, spared, part=part, lr=share * rate)
    groups += _groups(others, config, spared, part="objective", lr=rates.heads)
    if isinstance(config, AdafactorConfig):
        return _adafactor(groups, config)
    return AdamW(groups, betas=config.betas, eps=config.eps, fused=True)


def _adafactor(groups: list[dict[str, Any]], config: AdafactorConfig) -> Optimizer:
    """timm's, in which a decay is multiplied with the rate; divided by the peak it follows the schedule alone."""
    module = require("timm.optim.adafactor_bv", extra="train")
    groups = [{**group, "weight_decay": group["weight_decay"] / group["lr"]} for group in groups]
    momentum, cap = config.betas
    optimizer: Optimizer = module.AdafactorBigVision(
        groups, beta2_cap=cap, momentum=momentum, min_dim_size_to_factor=LEAST_TO_FACTOR
    )
    return optimizer


def build_average(model: DualEncoder, decay: float) -> AveragedModel:
    """A running average of a model's weights and buffers, which is updated after every step."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def embeddings_of(model: nn.Module) -> list[nn.Parameter]:
    """Tables of words, positions and types, and what timm's towers name beside them, such as their class token."""
    tables: list[nn.Parameter] = []
    for module in model.modules():
        names = getattr(module, "no_weight_decay", None)
        if isinstance(module, nn.Embedding):
            tables += module.parameters()
        elif callable(names):
            own = dict(module.named_parameters())
            tables += [own[name] for name in sorted(names()) if name in own]
    return tables


def _layers(
    model: DualEncoder, part: str, parameters: list[nn.Parameter], decay: float | None
) -> list[tuple[float, list[nn.Parameter]]]:
    """The parameters of a part by their shares of its rate, the whole rate last."""
    if decay is None or part == "heads":
        return [(1.0, parameters)]
    layers: list[list[nn.Parameter]] = getattr(model, part).parameters_by_layer
    return [(decay ** (len(layers) - 1 - number), layer) for number, layer in enumerate(layers)]


def _groups(
    parameters: Sequence[nn.Parameter], config: OptimizerConfig, spared: set[int], **settings: Any
) -> list[dict[str, Any]]:
    groups = []
    for decay, number in product((True, False), (False, True)):
        same = [
            p
            for p in parameters
            if (id(p) not in spared and (p.ndim >= 2 or config.decay_one_dimensional)) == decay
            and (p.ndim == 0) == number
        ]
        if same:
            groups.append({"params": same, "weight_decay": config.weight_decay if decay else 0.0, **settings})
    return groups
