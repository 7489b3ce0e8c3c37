"""Activation checkpointing and torch.compile change how gradients are computed, not what they are."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from conftest import build_tiny_pretrained
from pocketclip.errors import UserError
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.types import ImageTextBatch


def model_and_batch() -> tuple[DualEncoder, ImageTextBatch]:
    loaded = build_tiny_pretrained()
    model = loaded.model
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
    for parameter in model.parameters():
        parameter.requires_grad_()
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    tokens, mask = loaded.tokenizer.encode(["a red circle", "two blue squares", "star"])
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(3)
    return model, ImageTextBatch(images, torch.from_numpy(tokens), torch.from_numpy(mask), ids, ids)


def gradients(model: DualEncoder, batch: ImageTextBatch) -> dict[str, Tensor]:
    features = model(batch)
    (features.image.square().sum() + (features.text**3).sum() * features.logit_scale).backward()
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


def assert_same_gradients(change: Callable[[DualEncoder], None], tolerance: float) -> DualEncoder:
    plain, batch = model_and_batch()
    changed = copy.deepcopy(plain)
    change(changed)
    expected, actual = gradients(plain, batch), gradients(changed, batch)
    assert expected.keys() == actual.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():  # that of a key's bias is nothing but rounding
        scale = max(float(gradient.abs().max()), 1e-3 * largest)
        assert torch.allclose(actual[name], gradient, rtol=tolerance, atol=tolerance * scale), name
    assert changed.state_dict().keys() == plain.state_dict().keys()
    return changed


def test_checkpointed_activations_give_the_same_gradients() -> None:
    calls = [0]

    def checkpoint_and_count(model: DualEncoder) -> None:
        model.checkpoint_activations()
        for layer in model.text_encoder.tower.encoder.layer:
            layer.attention.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))

    changed = assert_same_gradients(checkpoint_and_count, 1e-5)
    assert calls[0] == 2 * len(changed.text_encoder.tower.encoder.layer), "each layer runs once more, for its gradient"


def test_towers_that_cannot_be_checkpointed_are_named() -> None:
    encoder = model_and_batch()[0].image_encoder
    encoder.tower = nn.Identity()
    with pytest.raises(UserError, match=r"train.checkpoint_activations: timm has none for test_efficientnet"):
        encoder.checkpoint_activations()


@pytest.mark.slow
def test_compiled_towers_give_the_same_gradients_and_bundles() -> None:
    changed = assert_same_gradients(DualEncoder.compile_for_training, 1e-3)
    assert copy.deepcopy(changed).state_dict().keys() == changed.state_dict().keys()
