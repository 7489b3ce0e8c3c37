"""CLIP's modified ResNet in any width."""

import pytest
import torch

from pocketclip.cost.flops import count_macs
from pocketclip.errors import UserError
from pocketclip.models.image.clip_resnet import ClipResNetEncoder
from pocketclip.models.image.config import ClipResNetEncoderConfig


def build(seed: int = 0, **changes: object) -> ClipResNetEncoder:
    torch.manual_seed(seed)
    settings = {"width": 8, "num_blocks": [1, 2, 1, 1], "image_size": 64, **changes}
    return ClipResNetEncoderConfig.parse(settings, place="image_encoder").build().eval()


def pictures(count: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_bytes_are_normalised_as_clip_does() -> None:
    tower = build()
    assert tower.feature_dim == 256
    mean, std = tower.preprocess.mean, tower.preprocess.std
    assert mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)
    floats = (pictures().float() / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    torch.testing.assert_close(tower(pictures()), tower(floats), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("width", "layers", "millions", "gmacs"), [(56, 9, 29.58, 6.93), (44, 6, 18.60, 4.41), (64, 12, 38.316, 9.117)]
)
def test_published_sizes(width: int, layers: int, millions: float, gmacs: float) -> None:
    """TinyCLIP's two, which publishes MACs with the text tower's, and CLIP's ResNet-50: last projection included."""
    with torch.device("meta"):
        tower = ClipResNetEncoderConfig(width=width).build()
        macs = count_macs(lambda: tower.eval()(torch.zeros(1, 3, 224, 224)))
    features = 32 * width
    projection = 1024 * (features + 1)
    assert (sum(value.numel() for value in tower.parameters()) + projection) / 1e6 == pytest.approx(millions, rel=1e-3)
    # CLIP computes query, attention and last projection of all 50 places, of which one is used
    unused = 49 * (features**2 + 2 * 50 * features + 1024 * features)
    text = layers * (77 * 12 * 512**2 + 2 * 77**2 * 512) + 1024 * 512
    assert (macs + 1024 * features + unused + text) / 1e9 == pytest.approx(gmacs, rel=1e-2)


def test_frozen_layers_are_the_stem_and_the_first_stages() -> None:
    tower = build(frozen_layers=2).train()
    frozen = {id(value) for value in tower.frozen_parameters}
    for name, value in tower.named_parameters():
        assert (id(value) in frozen) == name.startswith(("stem.", "stages.0.")), name
    assert not tower.stages[0].training
    assert tower.stages[1].training


def test_checkpointed_activations_give_the_same_gradients() -> None:
    plain, checkpointed = build().train(), build().train()
    checkpointed.checkpoint_activations()
    for tower in (plain, checkpointed):
        tower(pictures()).square().sum().backward()
    for (name, value), other in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(value.grad, other.grad, msg=name)


def test_a_size_that_the_strides_do_not_divide_is_refused() -> None:
    with pytest.raises(UserError, match=r"image_size.*multiple of 32"):
        build(image_size=60)
