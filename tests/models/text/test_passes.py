"""Texts of like length pass together, equal ones once, and all come back in their places, with their gradients."""

import torch
from torch import Tensor

from pocketclip.models.text.passes import pass_by_length, pass_once


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


def test_equal_texts_pass_once() -> None:
    tokens = torch.tensor([[4, 2], [7, 0], [4, 2], [7, 0], [4, 0], [4, 2]])
    mask = torch.tensor([[1, 1], [1, 0], [1, 1], [1, 1], [1, 0], [1, 1]]).bool()  # the fourth says 7 and then token 0
    weight = torch.tensor(3.0, requires_grad=True)
    passed = []

    def run(ids: Tensor, seen: Tensor) -> Tensor:
        passed.append(len(ids))
        return weight * (ids * 10 + seen).float()

    rows = pass_once(run, tokens, mask)
    assert passed == [4]
    wanted = (tokens * 10 + mask).float()
    torch.testing.assert_close(rows, 3 * wanted)
    rows.sum().backward()
    assert weight.grad == wanted.sum()


def test_different_texts_pass_in_their_order() -> None:
    tokens, seen = torch.tensor([[9], [3], [5]]), []
    pass_once(lambda ids, mask: (seen.append(ids), ids.float())[1], tokens, torch.ones(3, 1, dtype=torch.bool))
    assert torch.equal(seen[0], tokens)
