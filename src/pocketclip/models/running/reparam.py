"""The same function with fewer layers: branches of training joined, batch norms folded into their convolutions."""

import copy
import itertools
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pocketclip.errors import require
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.text.mixer import ConvolutionLayer
from pocketclip.models.tower import CachedTower, NoTower

TOLERANCE = 1e-4
"""Largest change of a folded tower's output, relative to the output's largest value, in float32."""
Module = TypeVar("Module", bound=nn.Module)


def reparameterize(model: DualEncoder) -> DualEncoder:
    """A copy of a model for inference, both towers fused; embeddings of unit length change by less than 1e-6."""
    fused = copy.deepcopy(model)
    fused.text_encoder = fuse_text_tower(model.text_encoder)
    if not isinstance(model.image_encoder, (CachedTower, NoTower)):
        fused.image_encoder = fuse_image_tower(model.image_encoder, example_for(model))
    return fused.eval()


def example_for(model: DualEncoder) -> Tensor:
    """Two images of noise as a model's image tower takes them, on its device."""
    shape = (2, 3, *model.image_encoder.preprocess.shape)
    noise = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0))
    return noise.to(torch.uint8).to(model.logit_scale.device)


def fuse_image_tower(tower: Module, example: Tensor) -> Module:
    """A copy of an image tower for inference; what would change its output on `example`, such as noise, is left out."""
    plain, joined = copy.deepcopy(tower).eval(), join_branches(tower)
    is_same = agree(_output(joined, example), _output(plain, example))
    return fold_batch_norms(joined if is_same else plain, example)


@torch.no_grad()
def fuse_text_tower(tower: Module) -> Module:
    """A copy of a text tower for inference, convolutions over the sequence fused."""
    fused = copy.deepcopy(tower).eval()
    for module in list(fused.modules()):
        if isinstance(module, ConvolutionLayer):
            module.reparameterize()
    return fused


def join_branches(tower: Module) -> Module:
    """A copy of a timm tower in which what timm can join is joined: MobileOne, RepMixer, RepVGG and their kin.

    Reference: FastViT, https://arxiv.org/abs/2303.14189, and RepVGG, https://arxiv.org/abs/2101.03697.
    """
    # Tensors of inference mode, in which some callers are, cannot be detached in place
    with torch.inference_mode(False), torch.no_grad():
        joined = copy.deepcopy(tower).eval()
        fused: Module = require("timm.utils", extra="train").reparameterize_model(joined, inplace=True)
    return fused.eval()


def fold_batch_norms(tower: Module, example: Tensor) -> Module:
    """A copy of a tower for inference, in which each batch norm of `foldable_norms` is part of its convolution."""
    plain = copy.deepcopy(tower).eval()
    pairs = foldable_norms(plain, example)
    return _fold(plain, pairs).to(memory_format=torch.channels_last) if pairs else plain


def foldable_norms(tower: nn.Module, example: Tensor) -> list[tuple[str, str]]:
    """Names of convolutions and of the batch norms that can be a part of them.

    Pairs are found by the order of registration, which in most convolutional timm towers is the order of execution,
    and the result is checked on `example`: where it differs, only pairs within one module are folded, and where that
    differs too, none.
    """
    plain = copy.deepcopy(tower).eval()
    pairs = _pairs(plain)
    siblings = [(before, after) for before, after in pairs if before.rpartition(".")[0] == after.rpartition(".")[0]]
    if not pairs:
        return []
    expected = _output(plain, example)
    return next((chosen for chosen in (pairs, siblings) if agree(_output(_fold(plain, chosen), example), expected)), [])


@torch.inference_mode()
def _output(tower: nn.Module, example: Tensor) -> Tensor:
    output: Tensor = tower(example)
    return output.float()


def agree(actual: Tensor, expected: Tensor) -> bool:
    """Whether the one differs from the other by no more than `TOLERANCE`."""
    return bool((expected - actual).abs().max() <= TOLERANCE * expected.abs().max().clamp(min=1e-6))


def _pairs(tower: nn.Module) -> list[tuple[str, str]]:
    """Names of convolutions and of the batch norms registered next."""
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    order = [(name, module) for name, module in tower.named_modules() if isinstance(module, kinds)]
    return [
        (before, after)
        for (before, convolution), (after, norm) in itertools.pairwise(order)
        if isinstance(convolution, nn.Conv2d)
        and isinstance(norm, nn.BatchNorm2d)
        and convolution.out_channels == norm.num_features
        and norm.running_mean is not None
    ]


def _fold(tower: Module, pairs: Iterable[tuple[str, str]]) -> Module:
    folded = copy.deepcopy(tower)
    for before, after in pairs:
        convolution, norm = folded.get_submodule(before), folded.get_submodule(after)
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        folded.set_submodule(before, fuse_conv_bn_eval(convolution, norm))
        folded.set_submodule(after, activation_of(norm))
    return folded


def activation_of(norm: nn.BatchNorm2d) -> nn.Module:
    """What is left of a batch norm once folded: timm's BatchNormAct2d also drops and activates."""
    parts = [getattr(norm, name) for name in ("drop", "act") if isinstance(getattr(norm, name, None), nn.Module)]
    kept = [part for part in parts if not isinstance(part, nn.Identity)]
    return nn.Sequential(*kept) if kept else nn.Identity()
