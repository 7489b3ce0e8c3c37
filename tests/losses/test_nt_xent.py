"""SimCLR's loss equals the sum that its paper writes down, in value and gradient."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pocketclip.losses import nt_xent
from pocketclip.losses.nt_xent import nt_xent_loss


def slow_reference(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """View by view, over all others."""
    views, count = [*first, *second], len(first)
    total = torch.zeros((), dtype=first.dtype)
    for place, view in enumerate(views):
        partner = views[(place + count) % (2 * count)]
        others = [torch.exp(view @ other / temperature) for number, other in enumerate(views) if number != place]
        total = total - torch.log(torch.exp(view @ partner / temperature) / torch.stack(others).sum())
    return total / (2 * count)


def views(count: int, width: int = 5) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(count)
    first, second = (torch.randn(count, width, generator=random, dtype=torch.float64) for _ in range(2))
    return first.requires_grad_(), second.requires_grad_()


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("rows_at_once", [3, 4096])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_it_equals_the_slow_sum(
    monkeypatch: pytest.MonkeyPatch, count: int, rows_at_once: int, temperature: float
) -> None:
    monkeypatch.setattr(nt_xent, "ROWS_AT_ONCE", rows_at_once)
    mine, theirs = views(count), views(count)
    loss = nt_xent_loss(*(F.normalize(view, dim=1) for view in mine), temperature)
    expected = slow_reference(*(F.normalize(view, dim=1) for view in theirs), temperature)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_views_without_a_signal_cost_the_logarithm_of_their_number() -> None:
    same = torch.ones(6, 1)
    assert float(nt_xent_loss(same, same, 0.1)) == pytest.approx(math.log(11), abs=1e-5)
