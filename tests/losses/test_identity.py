"""One classifier of identities for images and texts."""

import math

import pytest
import torch

from pocketclip.losses.identity import identity_loss


def slow(rows: list[list[float]], own: list[int]) -> float:
    losses = [math.log(sum(map(math.exp, row))) - row[place] for row, place in zip(rows, own, strict=True)]
    return sum(losses) / len(losses)


def test_it_is_the_mean_of_both_cross_entropies() -> None:
    random = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(count, 7, generator=random, dtype=torch.float64) for count in (3, 6))
    ids = torch.tensor([0, 6, 2])
    loss = identity_loss(images, texts, ids, ids.repeat_interleave(2))
    expected = (slow(images.tolist(), [0, 6, 2]) + slow(texts.tolist(), [0, 0, 6, 6, 2, 2])) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-10)


def test_features_without_signal_cost_the_logarithm_of_the_identities() -> None:
    nothing, ids = torch.zeros(4, 9), torch.tensor([0, 1, 1, 8])
    assert float(identity_loss(nothing, nothing, ids, ids)) == pytest.approx(math.log(9))
