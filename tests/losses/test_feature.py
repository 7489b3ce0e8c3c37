"""Feature distillation against a loop over rows."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pocketclip.losses.feature import feature_loss


def unit_rows(count: int, seed: int, width: int = 5) -> Tensor:
    rows = torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return F.normalize(rows, dim=1)


@pytest.mark.parametrize(("num_images", "num_texts"), [(1, 1), (4, 4), (3, 6)])
def test_it_equals_a_slow_loop(num_images: int, num_texts: int) -> None:
    mine, theirs = (
        (unit_rows(num_images, 0), unit_rows(num_texts, 1)),
        (unit_rows(num_images, 2), unit_rows(num_texts, 3)),
    )
    expected = 0.0
    for student, teacher in zip(mine, theirs, strict=True):
        cosines = [float(a @ b) for a, b in zip(student, teacher, strict=True)]
        expected += sum(2 * (1 - cosine) / student.shape[1] for cosine in cosines) / len(cosines)
    assert float(feature_loss(*mine, *theirs)) == pytest.approx(expected, rel=1e-12)


def test_opposite_features_cost_eight_over_the_width() -> None:
    image, text = unit_rows(3, 0), unit_rows(3, 1)
    assert float(feature_loss(image, text, -image, -text)) == pytest.approx(8 / 5)
    assert float(feature_loss(image, text, image, text)) == 0


def test_images_and_texts_may_change_places() -> None:
    parts = [unit_rows(4, seed) for seed in range(4)]
    one, other = feature_loss(*parts), feature_loss(parts[1], parts[0], parts[3], parts[2])
    torch.testing.assert_close(one, other)


def test_the_teacher_gets_no_gradient() -> None:
    image, teacher = unit_rows(3, 0).requires_grad_(), unit_rows(3, 1).requires_grad_()
    feature_loss(image, image, teacher, teacher).backward()
    assert image.grad is not None
    assert teacher.grad is None
