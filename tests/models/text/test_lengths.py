"""Texts of like length pass together and come back in their own order."""

import torch
from torch import Tensor

from pocketclip.models.text.lengths import pass_by_length


def test_every_text_comes_back_in_its_place_with_little_padding() -> None:
    lengths = torch.tensor([5, 1, 3, 0, 4, 2, 5])
    mask = torch.arange(8) < lengths[:, None]
    tokens = (torch.arange(7)[:, None] * 10 + torch.arange(8)) * mask
    shapes = []

    def run(ids: Tensor, seen: Tensor) -> Tensor:
        shapes.append(tuple(ids.shape))
        return torch.stack([ids.sum(1), seen.sum(1)], dim=1).float()

    rows = pass_by_length(run, tokens, mask, texts_a_pass=3)
    assert torch.equal(rows, torch.stack([tokens.sum(1), lengths], dim=1).float())
    assert shapes == [(3, 2), (3, 5), (1, 5)]
