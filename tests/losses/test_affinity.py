"""Affinity distillation against a loop over rows and columns."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pocketclip.losses.affinity import affinity_loss


def unit_rows(count: int, seed: int, width: int = 5) -> Tensor:
    rows = torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return F.normalize(rows, dim=1)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def softmax(logits: list[float]) -> list[float]:
    weights = [math.exp(value) for value in logits]
    return [weight / sum(weights) for weight in weights]


def slow_affinity_loss(
    images: Tensor, texts: Tensor, scale: float, teachers: list[tuple[Tensor, Tensor, float]]
) -> float:
    def mean_divergence(student: tuple[Tensor, Tensor, float], others: list[tuple[Tensor, Tensor, float]]) -> float:
        total = 0.0
        for row in range(len(student[0])):
            mine, *theirs = (
                softmax([s * float(left[row] @ right[column]) for column in range(len(right))])
                for left, right, s in (student, *others)
            )
            for column, probability in enumerate(mine):
                target = sum(one[column] for one in theirs) / len(theirs)
                total += target * math.log(target / probability)
        return total / len(student[0])

    turned = [(text, image, s) for image, text, s in teachers]
    return (mean_divergence((images, texts, scale), teachers) + mean_divergence((texts, images, scale), turned)) / 2


@pytest.mark.parametrize(("num_images", "num_texts"), [(1, 1), (2, 2), (7, 7), (4, 12), (5, 3)])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_it_equals_a_slow_loop(num_images: int, num_texts: int, count: int) -> None:
    images, texts = unit_rows(num_images, 0), unit_rows(num_texts, 1)
    teachers = [
        (unit_rows(num_images, 2 + one, width), unit_rows(num_texts, 5 + one, width), scale)
        for one, (width, scale) in enumerate([(5, 30.0), (3, 7.0), (8, 1.5)][:count])
    ]
    loss = affinity_loss(images, texts, number(12.0), *map(list, zip(*teachers, strict=True)))
    assert float(loss) == pytest.approx(slow_affinity_loss(images, texts, 12.0, teachers), rel=1e-12, abs=1e-12)


def test_a_student_that_is_its_teacher_has_no_loss() -> None:
    images, texts = unit_rows(6, 0), unit_rows(9, 1)
    loss = affinity_loss(images, texts, number(11.0), [images], [texts], [11.0])
    assert float(loss) == pytest.approx(0, abs=1e-12)


def test_a_student_that_is_the_mean_of_two_teachers_has_no_loss() -> None:
    images, texts = unit_rows(6, 0), unit_rows(6, 1)
    loss = affinity_loss(images, texts, number(11.0), [images, images], [texts, texts], [11.0, 11.0])
    assert float(loss) == pytest.approx(0, abs=1e-12)


def test_teachers_are_averaged_after_the_softmax() -> None:
    basis, scale = torch.eye(2, dtype=torch.float64), number(2.0)
    none = torch.zeros(2, 1, dtype=torch.float64)
    loss = affinity_loss(none, none, scale, [basis, none], [basis, none], [2.0, 2.0])
    match = (math.e**2 / (math.e**2 + 1) + 0.5) / 2
    assert float(loss) == pytest.approx(math.log(2) + match * math.log(match) + (1 - match) * math.log(1 - match))


def test_the_temperature_of_each_teacher_is_its_own() -> None:
    images, texts = unit_rows(6, 0), unit_rows(6, 1)
    teacher = unit_rows(6, 2), unit_rows(6, 3)
    hot, cold = (affinity_loss(images, texts, number(5.0), [teacher[0]], [teacher[1]], [s]) for s in (1.0, 50.0))
    both = affinity_loss(images, texts, number(5.0), [teacher[0]] * 2, [teacher[1]] * 2, [1.0, 50.0])
    assert hot < cold
    assert both < (hot + cold) / 2  # the divergence is convex in its target


def test_images_and_texts_may_change_places() -> None:
    images, texts, scale = unit_rows(6, 0), unit_rows(4, 1), number(9.0)
    teacher = [unit_rows(6, 2)], [unit_rows(4, 3)]
    one = affinity_loss(images, texts, scale, *teacher, [20.0])
    torch.testing.assert_close(affinity_loss(texts, images, scale, *teacher[::-1], [20.0]), one)


def test_teachers_get_no_gradient() -> None:
    images, texts, teacher = unit_rows(6, 0).requires_grad_(), unit_rows(6, 1), unit_rows(6, 2).requires_grad_()
    affinity_loss(images, texts, number(9.0), [teacher], [teacher], [20.0]).backward()
    assert images.grad is not None
    assert teacher.grad is None


def test_teachers_of_different_counts_are_refused() -> None:
    rows = unit_rows(3, 0)
    with pytest.raises(ValueError, match="zip"):
        affinity_loss(rows, rows, number(1.0), [rows], [rows, rows], [1.0])


def test_gradients_are_those_of_finite_differences() -> None:
    student = unit_rows(4, 0).requires_grad_(), unit_rows(6, 1).requires_grad_(), number(3.0).requires_grad_()
    teachers = [unit_rows(4, 2), unit_rows(4, 3)], [unit_rows(6, 4), unit_rows(6, 5)], [10.0, 4.0]
    assert torch.autograd.gradcheck(lambda *inputs: affinity_loss(*inputs, *teachers), student)
