"""A student against a frozen teacher's vectors."""

import math

import pytest
import torch
from torch.nn import functional as F

from pocketclip.losses.target import target_contrast_loss, target_distance_loss, target_logits_loss

RANDOM = torch.Generator().manual_seed(0)
STUDENT, TARGET = (torch.randn(4, 5, dtype=torch.float64, generator=RANDOM) for _ in range(2))
ONE = torch.tensor(1.0, dtype=torch.float64)


def test_distance_is_a_mean_over_all_numbers() -> None:
    expected = sum((a - b) ** 2 for a, b in zip(STUDENT.flatten().tolist(), TARGET.flatten().tolist(), strict=True))
    assert float(target_distance_loss(STUDENT, TARGET)) == pytest.approx(expected / 20)
    assert float(target_distance_loss(TARGET, TARGET)) == 0


def test_distance_heeds_lengths() -> None:
    assert float(target_distance_loss(2 * TARGET, TARGET)) == pytest.approx(float((TARGET**2).mean()))


def test_logits_are_compared_as_distributions() -> None:
    expected = 0.0
    for student, target in zip(STUDENT.softmax(1).tolist(), TARGET.softmax(1).tolist(), strict=True):
        expected += sum(t * math.log(t / s) for s, t in zip(student, target, strict=True))
    assert float(target_logits_loss(STUDENT, TARGET)) == pytest.approx(expected / 4)
    assert float(target_logits_loss(TARGET + 3, TARGET)) == pytest.approx(0, abs=1e-12)


def test_contrast_matches_a_loop() -> None:
    student, candidates = F.normalize(STUDENT[:2], dim=1), F.normalize(torch.cat([TARGET, STUDENT]), dim=1)
    left_out = torch.zeros(2, 8, dtype=torch.bool)
    left_out[0, 3] = left_out[1, 0] = True
    labels, expected = [1, 2], 0.0
    for row in range(2):
        scores = {n: 7 * float(student[row] @ candidates[n]) for n in range(8) if not left_out[row, n]}
        expected -= math.log(math.exp(scores[labels[row]]) / sum(math.exp(score) for score in scores.values()))
    found = target_contrast_loss(student, candidates, 7 * ONE, torch.tensor(labels), left_out)
    assert float(found) == pytest.approx(expected / 2)


def test_contrast_without_a_signal_is_the_log_of_the_number_of_candidates() -> None:
    candidates, labels = F.normalize(TARGET, dim=1), torch.arange(4)
    assert float(target_contrast_loss(torch.zeros_like(TARGET), candidates, ONE, labels)) == pytest.approx(math.log(4))


@pytest.mark.parametrize("loss", [target_distance_loss, target_logits_loss])
def test_nothing_flows_into_the_teacher(loss: object) -> None:
    target = TARGET.clone().requires_grad_()
    student = STUDENT.clone().requires_grad_()
    loss(student, target).backward()  # type: ignore[operator]
    target_contrast_loss(student, target, ONE, torch.arange(4)).backward()
    assert target.grad is None
    assert student.grad is not None
