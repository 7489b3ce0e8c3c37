"""Equal texts pass once and come back in every place, with the gradients of all places."""

import torch
from torch import Tensor

from pocketclip.models.text.repeats import pass_once


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
