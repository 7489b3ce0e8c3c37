"""Softmax with several matches a row, and which pairs of a batch match."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pocketclip.losses.clip import clip_loss
from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.losses.matches import positive_pairs
from pocketclip.losses.multi_positive import multi_positive_loss


def unit_rows(count: int, seed: int, width: int = 5) -> Tensor:
    rows = torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return F.normalize(rows, dim=1)


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def random_positives(num_images: int, num_texts: int) -> Tensor:
    positives = torch.rand(num_images, num_texts, generator=torch.Generator().manual_seed(2)) < 0.2
    for j in range(num_texts):
        positives[j % num_images, j] = True  # every row and column has a match
    return positives


def slow_direction(logits: list[list[float]], positives: list[list[bool]]) -> float:
    total = 0.0
    for row, matches in zip(logits, positives, strict=True):
        log_total = math.log(sum(math.exp(value) for value in row))
        losses = [log_total - value for value, match in zip(row, matches, strict=True) if match]
        total += sum(losses) / len(losses)
    return total / len(logits)


def slow_multi_positive_loss(images: Tensor, texts: Tensor, scale: float, positives: Tensor) -> float:
    logits = [[scale * float(image @ text) for text in texts] for image in images]
    columns = [list(column) for column in zip(*logits, strict=True)]
    return (slow_direction(logits, positives.tolist()) + slow_direction(columns, positives.T.tolist())) / 2


def reference(inputs: ContrastiveInputs) -> float:
    """What `test_every_loss.py` expects of a batch."""
    return slow_multi_positive_loss(*inputs.unit, float(inputs.logit_scale), inputs.positives)


@pytest.mark.parametrize(("num_images", "num_texts"), [(4, 4), (3, 12), (1, 5)])
def test_it_equals_a_slow_loop(num_images: int, num_texts: int) -> None:
    images, texts = unit_rows(num_images, 0), unit_rows(num_texts, 1)
    positives = random_positives(num_images, num_texts)
    loss = multi_positive_loss(images, texts, scalar(6.0), positives)
    assert float(loss) == pytest.approx(slow_multi_positive_loss(images, texts, 6.0, positives), rel=1e-10)


def test_with_one_text_an_image_it_is_the_clip_loss() -> None:
    images, texts = unit_rows(7, 0), unit_rows(7, 1)
    loss = multi_positive_loss(images, texts, scalar(11.0), torch.eye(7, dtype=torch.bool))
    torch.testing.assert_close(loss, clip_loss(images, texts, scalar(11.0)))


def test_features_without_signal_give_the_logarithms_of_both_sizes() -> None:
    same = unit_rows(1, 0)
    loss = multi_positive_loss(same.expand(3, -1), same.expand(6, -1), scalar(20.0), random_positives(3, 6))
    assert float(loss) == pytest.approx((math.log(6) + math.log(3)) / 2)


def test_images_and_texts_may_change_places() -> None:
    images, texts, positives = unit_rows(3, 0), unit_rows(9, 1), random_positives(3, 9)
    swapped = multi_positive_loss(texts, images, scalar(5.0), positives.T)
    torch.testing.assert_close(multi_positive_loss(images, texts, scalar(5.0), positives), swapped)


def test_a_second_match_is_not_pushed_away() -> None:
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = images.repeat_interleave(2, 0).clone().requires_grad_()
    positives = torch.eye(2, dtype=torch.bool).repeat_interleave(2, 1)
    loss = multi_positive_loss(images, texts, torch.tensor(1.0), positives)
    gradient = torch.autograd.grad(loss, texts)[0]
    assert torch.equal(gradient[0], gradient[1])  # both captions of an image are pulled alike
    assert gradient[0] @ images[0] < 0


def test_gradients_are_those_of_finite_differences() -> None:
    inputs = (unit_rows(2, 0).requires_grad_(), unit_rows(4, 1).requires_grad_(), scalar(3.0).requires_grad_())
    assert torch.autograd.gradcheck(lambda *values: multi_positive_loss(*values, random_positives(2, 4)), inputs)


def test_an_image_matches_the_texts_that_say_what_its_own_say() -> None:
    # Images 0 to 2 have two captions each; image 1 shares one with image 0, image 3 is image 0 again
    image_ids = torch.tensor([10, 11, 12, 10])
    text_image_ids = image_ids.repeat_interleave(2)
    caption_ids = torch.tensor([0, 1, 1, 2, 3, 4, 5, 0])
    expected = torch.zeros(4, 8, dtype=torch.bool)
    for i in range(4):
        own = {int(caption_ids[j]) for j in range(8) if text_image_ids[j] == image_ids[i]}
        for j in range(8):
            expected[i, j] = int(caption_ids[j]) in own
    assert torch.equal(positive_pairs(image_ids, text_image_ids, caption_ids), expected)
    assert expected[0].tolist() == [True, True, True, False, False, False, True, True]


def test_random_ids_give_the_pairs_of_a_slow_loop() -> None:
    random = torch.Generator().manual_seed(0)
    for _ in range(20):
        image_ids = torch.randint(0, 6, (5,), generator=random)
        text_image_ids = image_ids.repeat_interleave(3)
        caption_ids = torch.randint(0, 9, (15,), generator=random)
        pairs = positive_pairs(image_ids, text_image_ids, caption_ids)
        for i in range(5):
            for j in range(15):
                says_the_same = any(
                    text_image_ids[k] == image_ids[i] and caption_ids[k] == caption_ids[j] for k in range(15)
                )
                assert bool(pairs[i, j]) == says_the_same


def test_different_captions_of_different_images_match_on_the_diagonal_only() -> None:
    numbers = torch.arange(5)
    assert torch.equal(positive_pairs(numbers, numbers, numbers + 100), torch.eye(5, dtype=torch.bool))
