"""Gradient distillation: the formula against autograd, the distance against a loop."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pocketclip.losses.clip import clip_loss
from pocketclip.losses.gradient import contrastive_gradients, gradient_loss


def unit_rows(count: int, seed: int, width: int = 5) -> Tensor:
    rows = torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return F.normalize(rows, dim=1)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_formula_is_the_gradient_of_the_clip_loss(count: int) -> None:
    image, text = unit_rows(count, 0).requires_grad_(), unit_rows(count, 1).requires_grad_()
    expected = torch.autograd.grad(count * clip_loss(image, text, number(9.0)), (image, text))
    for found, one in zip(contrastive_gradients(image, text, number(9.0)), expected, strict=True):
        torch.testing.assert_close(found, one)


@pytest.mark.parametrize("count", [1, 3, 6])
def test_it_equals_a_slow_loop(count: int) -> None:
    image, text, teacher_image, teacher_text = (unit_rows(count, seed) for seed in range(4))

    def pulls(images: Tensor, texts: Tensor, scale: float) -> list[Tensor]:
        exp = [[math.exp(scale * float(a @ b)) for b in texts] for a in images]
        found = []
        for anchors, others, table in ((images, texts, exp), (texts, images, list(zip(*exp, strict=True)))):
            for k in range(len(anchors)):
                pull = torch.zeros(5, dtype=torch.float64)
                for b in range(len(others)):
                    along = table[k][b] / sum(table[k]) - (k == b)
                    across = table[k][b] / sum(row[b] for row in table) - (k == b)
                    pull += scale * (along + across) / 2 * others[b]
                found.append(pull)
        return found

    pairs = zip(pulls(image, text, 6.0), pulls(teacher_image, teacher_text, 11.0), strict=True)
    expected = sum(float((mine - theirs).square().sum()) for mine, theirs in pairs) / count
    loss = gradient_loss(image, text, number(6.0), teacher_image, teacher_text, 11.0)
    assert float(loss) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_a_student_that_is_its_teacher_has_no_loss() -> None:
    image, text = unit_rows(6, 0), unit_rows(6, 1)
    assert float(gradient_loss(image, text, number(11.0), image, text, 11.0)) == pytest.approx(0, abs=1e-20)


def test_a_known_value() -> None:
    image, none = torch.eye(2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    # Without a signal nothing pulls; over the two basis vectors a pair pulls with 1 - p at itself and at the other
    match = math.e / (math.e + 1)
    expected = 2 * 2 * (1 - match) ** 2
    assert float(gradient_loss(image, image, number(1.0), none, none, 1.0)) == pytest.approx(expected)


def test_images_and_texts_may_change_places() -> None:
    image, text, teacher_image, teacher_text = (unit_rows(5, seed) for seed in range(4))
    one = gradient_loss(image, text, number(7.0), teacher_image, teacher_text, 20.0)
    torch.testing.assert_close(gradient_loss(text, image, number(7.0), teacher_text, teacher_image, 20.0), one)


def test_gradients_are_those_of_finite_differences_and_the_teacher_gets_none() -> None:
    student = unit_rows(4, 0).requires_grad_(), unit_rows(4, 1).requires_grad_(), number(3.0).requires_grad_()
    teacher = unit_rows(4, 2).requires_grad_(), unit_rows(4, 3), 8.0
    assert torch.autograd.gradcheck(lambda *inputs: gradient_loss(*inputs, *teacher), student)
    gradient_loss(*student, *teacher).backward()
    assert teacher[0].grad is None
