"""Tile by tile equals the whole matrix: values, every gradient, uneven tiles."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pocketclip.losses.affinity import affinity_loss
from pocketclip.losses.clip import clip_loss
from pocketclip.losses.config import ClipLossConfig, MultiPositiveLossConfig, SigmoidLossConfig
from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.losses.large import large_affinity_loss
from pocketclip.losses.matches import matching_pairs, positive_pairs
from pocketclip.losses.multi_positive import multi_positive_loss
from pocketclip.losses.sigmoid import sigmoid_loss

SIZES = [(8, 8, 3), (7, 7, 7), (5, 10, 4), (16, 48, 64), (33, 33, 16), (1, 3, 2)]


@pytest.fixture(autouse=True)
def small_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the size that a test names, or of three rows and columns."""
    callspec = getattr(request.node, "callspec", None)
    monkeypatch.setattr("pocketclip.losses.tiles.TILE", callspec.params.get("tile", 3) if callspec else 3)


def features(count: int, seed: int, dtype: torch.dtype) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 6, generator=random, dtype=torch.float64), dim=1).to(dtype).requires_grad_()


def inputs(num_images: int, num_texts: int, dtype: torch.dtype) -> list[Tensor]:
    scale = torch.tensor(14.0, dtype=dtype, requires_grad=True)
    bias = torch.tensor(-2.5, dtype=dtype, requires_grad=True)
    return [features(num_images, 0, dtype), features(num_texts, 1, dtype), scale, bias]


def ids(num_images: int, num_texts: int) -> tuple[Tensor, Tensor, Tensor]:
    """Some images stand twice, and some captions say the same."""
    image_ids = torch.arange(num_images) // 2 * 2
    captions = torch.randint(0, max(2, num_texts // 2), (num_texts,), generator=torch.Generator().manual_seed(4))
    return image_ids, image_ids.repeat_interleave(num_texts // num_images), captions


def given(image: Tensor, text: Tensor, *scalars: Tensor, ids: tuple[Tensor, ...] | None = None) -> ContrastiveInputs:
    scale, *bias = scalars
    image_ids, _, captions = ids or (torch.arange(len(image)), None, torch.arange(len(text)))
    return ContrastiveInputs(image, text, scale, bias[0] if bias else torch.zeros_like(scale), image_ids, captions)


def assert_equal(one: Callable[..., Tensor], other: Callable[..., Tensor], arguments: list[Tensor]) -> None:
    tolerance = 1e-12 if arguments[0].dtype == torch.float64 else 1e-6
    image, text, *scalars = arguments
    found, expected = one(*arguments), other(F.normalize(image, dim=1), F.normalize(text, dim=1), *scalars)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    used = [number for number, grad in enumerate(grads(expected, arguments)) if grad is not None]
    assert used
    for number in used:
        mine, theirs = grads(found, arguments)[number], grads(expected, arguments)[number]
        # A feature's gradient is a sum of terms of about 3 x 14, the loss's factor times the scale
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=42 * tolerance)


def grads(loss: Tensor, arguments: list[Tensor]) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(3 * loss, arguments, allow_unused=True, retain_graph=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(("count", "tile"), [(8, 3), (7, 7), (33, 16), (5, 100), (1, 1)])
def test_clip_is_the_plain_loss(count: int, tile: int, smoothing: float, dtype: torch.dtype) -> None:
    assert_equal(
        lambda a, b, s, _: ClipLossConfig(label_smoothing=smoothing).large(given(a, b, s)),
        lambda a, b, s, _: clip_loss(a, b, s, label_smoothing=smoothing),
        inputs(count, count, dtype),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("num_images", "num_texts", "tile"), SIZES)
def test_multi_positive_is_the_plain_loss(num_images: int, num_texts: int, tile: int, dtype: torch.dtype) -> None:
    numbers = ids(num_images, num_texts)
    assert_equal(
        lambda a, b, s, _: MultiPositiveLossConfig().large(given(a, b, s, ids=numbers)),
        lambda a, b, s, _: multi_positive_loss(a, b, s, positive_pairs(*numbers)),
        inputs(num_images, num_texts, dtype),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("num_images", "num_texts", "tile"), SIZES)
def test_sigmoid_is_the_plain_loss(num_images: int, num_texts: int, tile: int, dtype: torch.dtype) -> None:
    numbers = ids(num_images, num_texts)
    assert_equal(
        lambda a, b, s, c: SigmoidLossConfig().large(given(a, b, s, c, ids=numbers)),
        lambda a, b, s, c: sigmoid_loss(a, b, s, c, positives=positive_pairs(*numbers)),
        inputs(num_images, num_texts, dtype),
    )


def teachers(num_images: int, num_texts: int, count: int, dtype: torch.dtype) -> tuple[list[Tensor], ...]:
    """Images, texts and scales of teachers that differ in width and temperature."""
    random = torch.Generator().manual_seed(7)
    images, texts = (
        [
            F.normalize(torch.randn(rows, width, generator=random, dtype=torch.float64), dim=1).to(dtype)
            for width in (4, 9, 6)[:count]
        ]
        for rows in (num_images, num_texts)
    )
    return images, texts, [20.0, 9.0, 2.5][:count]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("num_images", "num_texts", "tile"), SIZES)
def test_affinity_is_the_plain_loss(num_images: int, num_texts: int, tile: int, count: int, dtype: torch.dtype) -> None:
    others = teachers(num_images, num_texts, count, dtype)
    assert_equal(
        lambda a, b, s, _: large_affinity_loss(given(a, b, s), *others),
        lambda a, b, s, _: affinity_loss(a, b, s, *others),
        inputs(num_images, num_texts, dtype),
    )


def test_affinity_gives_teachers_no_gradient() -> None:
    image, text, scale, _ = inputs(5, 5, torch.float32)
    large_affinity_loss(given(image.detach().requires_grad_(), text, scale), [image], [text], [3.0]).backward()
    assert image.grad is None


@pytest.mark.parametrize(("num_images", "num_texts", "tile"), SIZES)
def test_the_list_of_matches_is_the_mask(num_images: int, num_texts: int, tile: int) -> None:
    numbers = ids(num_images, num_texts)
    mask = torch.zeros(num_images, num_texts, dtype=torch.bool)
    pairs = matching_pairs(*numbers)
    mask[pairs[:, 0], pairs[:, 1]] = True
    assert torch.equal(mask, positive_pairs(*numbers))
    assert len(pairs) == int(mask.sum())  # none twice


def test_gradients_are_those_of_finite_differences() -> None:
    arguments = inputs(4, 8, torch.float64)
    numbers = ids(4, 8)
    assert torch.autograd.gradcheck(
        lambda a, b, s: MultiPositiveLossConfig().large(given(a, b, s, ids=numbers)), arguments[:3]
    )
    assert torch.autograd.gradcheck(
        lambda a, b, s, c: SigmoidLossConfig().large(given(a, b, s, c, ids=numbers)), arguments
    )
    others = teachers(4, 8, 2, torch.float64)
    assert torch.autograd.gradcheck(lambda a, b, s: large_affinity_loss(given(a, b, s), *others), arguments[:3])


def test_logits_far_apart_stay_finite() -> None:
    image, text, _, _ = inputs(9, 9, torch.float32)
    scale = torch.tensor(100.0, requires_grad=True)
    loss = ClipLossConfig().large(given(image, -image + 0 * text, scale))
    loss += large_affinity_loss(given(image, text, scale), [-image], [image], [100.0])
    loss.backward()
    assert torch.isfinite(loss)
    assert scale.grad is not None
    assert torch.isfinite(scale.grad)
