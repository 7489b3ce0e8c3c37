"""Interactive contrastive learning against a loop over anchors."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pocketclip.losses.clip import clip_loss
from pocketclip.losses.interactive import interactive_loss
from pocketclip.losses.large import large_interactive_loss


def unit_rows(count: int, seed: int, width: int = 5) -> Tensor:
    rows = torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return F.normalize(rows, dim=1)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def slow_interactive_loss(
    image: Tensor, text: Tensor, teacher_image: Tensor, teacher_text: Tensor, scale: float
) -> float:
    total = 0.0
    for anchors, others in ((image, teacher_text), (text, teacher_image)):
        for row in range(len(anchors)):
            weights = [math.exp(scale * float(anchors[row] @ other)) for other in others]
            total -= math.log(weights[row] / sum(weights))
    return total / 2 / len(image)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_it_equals_a_slow_loop(count: int) -> None:
    parts = [unit_rows(count, seed) for seed in range(4)]
    assert float(interactive_loss(*parts, number(9.0))) == pytest.approx(slow_interactive_loss(*parts, 9.0), rel=1e-12)


def test_without_a_signal_it_is_the_logarithm_of_the_batch() -> None:
    none, teacher = torch.zeros(6, 5, dtype=torch.float64), unit_rows(6, 0)
    assert float(interactive_loss(none, none, teacher, teacher, number(50.0))) == pytest.approx(math.log(6))


def test_images_and_texts_may_change_places() -> None:
    image, text, teacher_image, teacher_text = (unit_rows(5, seed) for seed in range(4))
    one = interactive_loss(image, text, teacher_image, teacher_text, number(7.0))
    torch.testing.assert_close(interactive_loss(text, image, teacher_text, teacher_image, number(7.0)), one)


def test_a_student_and_teacher_that_are_one_give_the_clip_loss() -> None:
    image, text = unit_rows(5, 0), unit_rows(5, 1)
    torch.testing.assert_close(
        interactive_loss(image, text, image, text, number(7.0)), clip_loss(image, text, number(7.0))
    )


@pytest.mark.parametrize("tile", [2, 3, 64])
def test_parts_of_the_student_add_up(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over ranks is the loss; a rank's own rows are found among the gathered ones by their values."""
    monkeypatch.setattr("pocketclip.losses.tiles.TILE", tile)
    parts, scale = [unit_rows(9, seed) for seed in range(4)], number(7.0)
    parts = [part.requires_grad_() for part in parts[:2]] + parts[2:]
    found = []
    for rank, own in enumerate((slice(0, 3), slice(3, 8), slice(8, 9))):
        monkeypatch.setattr(
            "pocketclip.distributed.gather",
            lambda rows, _, own=own: next(part for part in parts[2:] if torch.equal(part[own], rows)),
        )
        monkeypatch.setattr("pocketclip.distributed.rank", lambda rank=rank: rank)
        found.append(large_interactive_loss(*(part[own] for part in parts), scale, (3, 5, 1)))
    mean, whole = torch.stack(found).mean(), interactive_loss(*parts, scale)
    torch.testing.assert_close(mean, whole)
    torch.testing.assert_close(torch.autograd.grad(mean, parts[:2]), torch.autograd.grad(whole, parts[:2]))


def test_the_teacher_gets_no_gradient_and_the_scale_does() -> None:
    image, teacher, scale = unit_rows(3, 0).requires_grad_(), unit_rows(3, 1).requires_grad_(), number(5.0)
    interactive_loss(image, image, teacher, teacher, scale.requires_grad_()).backward()
    assert image.grad is not None
    assert scale.grad is not None
    assert teacher.grad is None


@pytest.mark.parametrize("tile", [2, 4, 64])
def test_tile_by_tile_equals_the_whole_matrix(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketclip.losses.tiles.TILE", tile)
    student = unit_rows(9, 0).requires_grad_(), unit_rows(9, 1).requires_grad_()
    teacher, scale = (unit_rows(9, 2), unit_rows(9, 3)), number(20.0).requires_grad_()
    whole = interactive_loss(*student, *teacher, scale)
    tiled = large_interactive_loss(*student, *teacher, scale)
    torch.testing.assert_close(tiled, whole)
    for one, other in zip(
        torch.autograd.grad(tiled, (*student, scale)), torch.autograd.grad(whole, (*student, scale)), strict=True
    ):
        torch.testing.assert_close(one, other)
