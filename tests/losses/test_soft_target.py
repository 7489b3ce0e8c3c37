"""The small-encoder study's loss: the published formula, its defects included."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip.losses.clip import clip_loss
from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.losses.soft_target import soft_target_loss


def rows(count: int, seed: int, width: int = 5) -> Tensor:
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def published_loss(image_embeddings: Tensor, text_embeddings: Tensor, temperature: float) -> Tensor:
    """The formula as the study's code writes it: cross-entropy with targets that are not detached."""
    logits = (text_embeddings @ image_embeddings.T) / temperature
    images_similarity = image_embeddings @ image_embeddings.T
    texts_similarity = text_embeddings @ text_embeddings.T
    targets = F.softmax((images_similarity + texts_similarity) / 2 * temperature, dim=-1)
    texts_loss = (-targets * nn.LogSoftmax(dim=-1)(logits)).sum(1)
    images_loss = (-targets.T * nn.LogSoftmax(dim=-1)(logits.T)).sum(1)
    return ((images_loss + texts_loss) / 2.0).mean()


def slow_soft_target_loss(images: Tensor, texts: Tensor, temperature: float) -> float:
    size, total = len(images), 0.0
    logits = [[float(texts[i] @ images[j]) / temperature for j in range(size)] for i in range(size)]
    columns = [list(column) for column in zip(*logits, strict=True)]
    targets = []
    for i in range(size):
        likeness = [float(images[i] @ images[j] + texts[i] @ texts[j]) / 2 * temperature for j in range(size)]
        sum_of_exponentials = sum(math.exp(value) for value in likeness)
        targets.append([math.exp(value) / sum_of_exponentials for value in likeness])
    for i in range(size):
        for j in range(size):
            row = math.log(sum(math.exp(value) for value in logits[i])) - logits[i][j]
            column = math.log(sum(math.exp(value) for value in columns[i])) - columns[i][j]
            total += (targets[i][j] * row + targets[j][i] * column) / 2
    return total / size


def reference(inputs: ContrastiveInputs) -> float:
    """What `test_every_loss.py` expects of a batch."""
    return slow_soft_target_loss(inputs.image, inputs.text, 1 / float(inputs.logit_scale))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_it_equals_a_slow_loop(temperature: float) -> None:
    images, texts = rows(6, 0), rows(6, 1)
    loss = soft_target_loss(images, texts, torch.tensor(1 / temperature, dtype=torch.float64))
    assert float(loss) == pytest.approx(slow_soft_target_loss(images, texts, temperature), rel=1e-10)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_value_and_gradients_equal_the_published_formula(temperature: float) -> None:
    images, texts = rows(6, 0).requires_grad_(), rows(6, 1).requires_grad_()
    loss = soft_target_loss(images, texts, torch.tensor(1 / temperature, dtype=torch.float64))
    expected = published_loss(images, texts, temperature)
    torch.testing.assert_close(loss, expected)
    ours, theirs = torch.autograd.grad(loss, (images, texts)), torch.autograd.grad(expected, (images, texts))
    torch.testing.assert_close(ours, theirs)


def test_gradients_flow_through_the_targets() -> None:
    images, texts = rows(4, 0).requires_grad_(), rows(4, 1).requires_grad_()
    loss = soft_target_loss(images, texts, torch.tensor(1.0, dtype=torch.float64))
    gradient = torch.autograd.grad(loss, images)[0]
    logits = texts @ images.T
    targets = ((images @ images.T + texts @ texts.T) / 2).softmax(1).detach()
    detached = -(targets * logits.log_softmax(1) + targets.T.contiguous() * logits.T.log_softmax(1)).sum(1).mean() / 2
    torch.testing.assert_close(detached, loss)
    assert not torch.allclose(torch.autograd.grad(detached, images)[0], gradient, rtol=0.1)


def test_the_features_are_not_normalised() -> None:
    images, texts, one = rows(4, 0), rows(4, 1), torch.tensor(1.0, dtype=torch.float64)
    assert abs(soft_target_loss(2 * images, 2 * texts, one) - soft_target_loss(images, texts, one)) > 0.1


def test_identical_vectors_give_the_logarithm_of_the_batch_size() -> None:
    same = F.layer_norm(rows(1, 0, 64), (64,)).expand(8, -1)
    assert float(soft_target_loss(same, same, torch.tensor(1.0))) == pytest.approx(math.log(8))


def test_near_a_collapse_it_has_no_slope_where_clip_loss_has_one() -> None:
    centre, one = rows(1, 0, 64), torch.tensor(1.0, dtype=torch.float64)
    images = (centre + 1e-3 * rows(8, 1, 64)).requires_grad_()
    texts = (centre + 1e-3 * rows(8, 2, 64)).requires_grad_()
    slopes = []
    for loss in (soft_target_loss, clip_loss):
        value = loss(F.layer_norm(images, (64,)), F.layer_norm(texts, (64,)), one)
        slopes.append(float(torch.autograd.grad(value, images)[0].norm()))
    assert slopes[1] > 1e-3
    assert slopes[0] < slopes[1] / 1000


def test_distinct_layer_norm_outputs_have_targets_close_to_one_hot() -> None:
    images = F.layer_norm(rows(8, 0, 256), (256,))
    texts = F.layer_norm(rows(8, 1, 256), (256,))
    one = torch.tensor(1.0, dtype=torch.float64)
    torch.testing.assert_close(soft_target_loss(images, texts, one), clip_loss(images, texts, one))


def test_images_and_texts_may_not_change_places() -> None:
    # The transposed targets do not sum to one over a row, so the two directions differ
    images, texts, one = rows(6, 0), rows(6, 1), torch.tensor(1.0, dtype=torch.float64)
    assert abs(soft_target_loss(images, texts, one) - soft_target_loss(texts, images, one)) > 1e-3
