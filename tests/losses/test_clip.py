"""CLIP's softmax loss against a loop over rows and columns."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pocketclip.losses.clip import clip_loss
from pocketclip.losses.contrastive import ContrastiveInputs


def unit_rows(count: int, seed: int, width: int = 5) -> Tensor:
    rows = torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return F.normalize(rows, dim=1)


def cross_entropy(logits: list[float], answer: int, smoothing: float = 0.0) -> float:
    log_total = math.log(sum(math.exp(value) for value in logits))
    target = [smoothing / len(logits)] * len(logits)
    target[answer] += 1 - smoothing
    return sum(weight * (log_total - value) for weight, value in zip(target, logits, strict=True))


def slow_clip_loss(images: Tensor, texts: Tensor, scale: float, smoothing: float = 0.0) -> float:
    total, size = 0.0, len(images)
    for i in range(size):
        total += cross_entropy([scale * float(images[i] @ texts[j]) for j in range(size)], i, smoothing)
        total += cross_entropy([scale * float(images[j] @ texts[i]) for j in range(size)], i, smoothing)
    return total / (2 * size)


def reference(inputs: ContrastiveInputs) -> float:
    """What `test_every_loss.py` expects of a batch."""
    return slow_clip_loss(*inputs.unit, float(inputs.logit_scale))


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_it_equals_a_slow_loop(size: int, scale: float) -> None:
    images, texts = unit_rows(size, 0), unit_rows(size, 1)
    loss = clip_loss(images, texts, torch.tensor(scale, dtype=torch.float64))
    assert float(loss) == pytest.approx(slow_clip_loss(images, texts, scale), rel=1e-12, abs=1e-12)


def test_label_smoothing_equals_a_slow_loop() -> None:
    images, texts = unit_rows(6, 0), unit_rows(6, 1)
    loss = clip_loss(images, texts, torch.tensor(5.0, dtype=torch.float64), label_smoothing=0.2)
    assert float(loss) == pytest.approx(slow_clip_loss(images, texts, 5.0, 0.2), rel=1e-12)


def test_features_without_signal_give_the_logarithm_of_the_batch_size() -> None:
    same = unit_rows(1, 0).expand(8, -1)
    assert float(clip_loss(same, same, torch.tensor(20.0))) == pytest.approx(math.log(8))


def test_a_perfect_model_at_a_high_scale_has_no_loss() -> None:
    basis = torch.eye(5)
    assert float(clip_loss(basis, basis, torch.tensor(100.0))) == pytest.approx(0, abs=1e-6)


def test_images_and_texts_may_change_places() -> None:
    images, texts, scale = unit_rows(6, 0), unit_rows(6, 1), torch.tensor(9.0)
    assert torch.equal(clip_loss(images, texts, scale), clip_loss(texts, images, scale))


def test_the_order_of_the_pairs_does_not_matter() -> None:
    images, texts, scale = unit_rows(6, 0), unit_rows(6, 1), torch.tensor(9.0)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(clip_loss(images[order], texts[order], scale), clip_loss(images, texts, scale))


def test_breaking_the_pairs_raises_the_loss_of_a_good_model() -> None:
    images, scale = unit_rows(6, 0), torch.tensor(9.0)
    assert clip_loss(images, images.roll(1, 0), scale) > clip_loss(images, images, scale) + 1


def test_gradients_are_those_of_finite_differences() -> None:
    images, texts = unit_rows(4, 0).requires_grad_(), unit_rows(4, 1).requires_grad_()
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(clip_loss, (images, texts, scale))
