"""SigLIP's loss against a loop and against the paper's algorithm."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.losses.sigmoid import sigmoid_loss


def unit_rows(count: int, seed: int, width: int = 5) -> Tensor:
    rows = torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return F.normalize(rows, dim=1)


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def slow_sigmoid_loss(images: Tensor, texts: Tensor, scale: float, bias: float, positives: Tensor) -> float:
    total = 0.0
    for i in range(len(images)):
        for j in range(len(texts)):
            logit = scale * float(images[i] @ texts[j]) + bias
            match = 1 / (1 + math.exp(-logit))
            total -= math.log(match if positives[i, j] else 1 - match)
    return total / len(images)


def reference(inputs: ContrastiveInputs) -> float:
    """What `test_every_loss.py` expects of a batch."""
    scalars = float(inputs.logit_scale), float(inputs.logit_bias)
    return slow_sigmoid_loss(*inputs.unit, *scalars, inputs.positives)


def algorithm_1(img_emb: np.ndarray, txt_emb: np.ndarray, t_prime: float, b: float) -> float:
    """The paper's pseudocode, line by line."""
    n = len(img_emb)
    t = np.exp(t_prime)
    zimg = img_emb / np.linalg.norm(img_emb, axis=1, keepdims=True)
    ztxt = txt_emb / np.linalg.norm(txt_emb, axis=1, keepdims=True)
    logits = zimg @ ztxt.T * t + b
    labels = 2 * np.eye(n) - np.ones((n, n))
    return float(-np.sum(-np.logaddexp(0, -labels * logits)) / n)


def test_it_equals_a_slow_loop_with_several_texts_an_image() -> None:
    images, texts = unit_rows(4, 0), unit_rows(12, 1)
    positives = torch.rand(4, 12, generator=torch.Generator().manual_seed(2)) < 0.3
    loss = sigmoid_loss(images, texts, scalar(7.0), scalar(-2.0), positives=positives)
    assert float(loss) == pytest.approx(slow_sigmoid_loss(images, texts, 7.0, -2.0, positives), rel=1e-10)


def test_it_equals_algorithm_1_of_the_paper_at_its_starting_values() -> None:
    images, texts = unit_rows(9, 0), unit_rows(9, 1)
    loss = sigmoid_loss(images, texts, scalar(10.0), scalar(-10.0))
    assert float(loss) == pytest.approx(algorithm_1(images.numpy(), texts.numpy(), math.log(10), -10.0), rel=1e-12)


def test_without_positives_the_diagonal_matches() -> None:
    images, texts = unit_rows(5, 0), unit_rows(5, 1)
    given = sigmoid_loss(images, texts, scalar(4.0), scalar(-1.0), positives=torch.eye(5, dtype=torch.bool))
    assert torch.equal(sigmoid_loss(images, texts, scalar(4.0), scalar(-1.0)), given)


@pytest.mark.parametrize(("num_images", "num_texts"), [(3, 3), (3, 6)])
def test_zero_logits_give_log_2_for_every_text(num_images: int, num_texts: int) -> None:
    positives = torch.zeros(num_images, num_texts, dtype=torch.bool)
    images, texts = unit_rows(num_images, 0), unit_rows(num_texts, 1)
    loss = sigmoid_loss(images, texts, scalar(0.0), scalar(0.0), positives=positives)
    assert float(loss) == pytest.approx(num_texts * math.log(2))


def test_the_advised_bias_starts_with_a_smaller_loss_than_no_bias() -> None:
    images, texts, none = unit_rows(32, 0, 256), unit_rows(32, 1, 256), scalar(0.0)
    advised = scalar(-math.log(31))
    assert sigmoid_loss(images, texts, scalar(1.0), advised) < sigmoid_loss(images, texts, scalar(1.0), none) / 3


def test_images_and_texts_may_change_places() -> None:
    images, texts = unit_rows(6, 0), unit_rows(6, 1)
    swapped = sigmoid_loss(texts, images, scalar(9.0), scalar(-3.0))
    torch.testing.assert_close(sigmoid_loss(images, texts, scalar(9.0), scalar(-3.0)), swapped)


def test_large_logits_stay_finite() -> None:
    images = unit_rows(4, 0)
    assert torch.isfinite(sigmoid_loss(images, -images, scalar(1e6), scalar(0.0)))


def test_gradients_are_those_of_finite_differences() -> None:
    inputs = [unit_rows(3, 0), unit_rows(3, 1), scalar(3.0), scalar(-1.0)]
    assert torch.autograd.gradcheck(sigmoid_loss, [value.requires_grad_() for value in inputs])
