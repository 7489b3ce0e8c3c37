"""Similarity distribution matching against a slow loop, in blocks, and over ranks."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pocketclip.losses import sdm
from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.losses.sdm import EPSILON, large_sdm_loss, sdm_loss
from processes import run_ranks

SCALE = 6.0
SHARES = [(3, 5), (1, 5, 2)]


def unit_rows(count: int, seed: int, width: int = 5) -> Tensor:
    rows = torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return F.normalize(rows, dim=1)


def slow_direction(logits: list[list[float]], rows: list[int], columns: list[int]) -> float:
    total = 0.0
    for row, own in zip(logits, rows, strict=True):
        exponentials = [math.exp(value) for value in row]
        matches = columns.count(own)
        for value, other in zip(exponentials, columns, strict=True):
            share, target = value / sum(exponentials), (1 / matches if own == other else 0.0)
            total += share * (math.log(share) - math.log(target + EPSILON))
    return total / len(rows)


def slow_sdm(images: Tensor, texts: Tensor, scale: float, image_ids: list[int], text_ids: list[int]) -> float:
    logits = [[scale * float(image @ text) for text in texts] for image in images]
    columns = [list(column) for column in zip(*logits, strict=True)]
    return slow_direction(logits, image_ids, text_ids) + slow_direction(columns, text_ids, image_ids)


@pytest.mark.parametrize("ids", [[0, 1, 2, 3], [0, 0, 1, 2], [4, 4, 4, 4], [7, 1, 7, 1]])
@pytest.mark.parametrize("captions", [1, 3])
def test_it_equals_a_slow_loop(ids: list[int], captions: int) -> None:
    images, texts = unit_rows(4, 0), unit_rows(4 * captions, 1)
    image_ids = torch.tensor(ids)
    text_ids = image_ids.repeat_interleave(captions)
    loss = sdm_loss(images, texts, SCALE, image_ids, text_ids)
    assert float(loss) == pytest.approx(slow_sdm(images, texts, SCALE, ids, text_ids.tolist()), rel=1e-9)


def test_matches_that_alone_are_alike_cost_nothing() -> None:
    people = torch.eye(3, dtype=torch.float64)[[0, 0, 1, 2]]
    ids = torch.tensor([0, 0, 1, 2])
    assert float(sdm_loss(people, people, 50.0, ids, ids)) == pytest.approx(0, abs=1e-6)


def test_images_and_texts_may_change_places() -> None:
    images, texts, ids = unit_rows(5, 0), unit_rows(5, 1), torch.tensor([0, 1, 1, 2, 0])
    torch.testing.assert_close(sdm_loss(images, texts, 9.0, ids, ids), sdm_loss(texts, images, 9.0, ids, ids))


def test_gradients_are_those_of_finite_differences() -> None:
    ids = torch.tensor([0, 1, 0])
    inputs = unit_rows(3, 0).requires_grad_(), unit_rows(3, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda *sides: sdm_loss(*sides, SCALE, ids, ids), inputs)


def whole(captions: int = 2) -> ContrastiveInputs:
    random, count = torch.Generator().manual_seed(3), 8
    ids = torch.tensor([0, 1, 2, 0, 3, 1, 1, 0])  # matches lie on different ranks
    return ContrastiveInputs(
        torch.randn(count, 6, generator=random, dtype=torch.float64),
        torch.randn(count * captions, 6, generator=random, dtype=torch.float64),
        torch.tensor(4.0),
        torch.tensor(0.0),
        torch.arange(count),
        torch.arange(count * captions),
        identity_ids=ids,
    )


def of_share(rank: int, shares: tuple[int, ...], captions: int = 2) -> dict[str, Tensor]:
    inputs, sdm.BLOCK_ELEMENTS = whole(captions), 20
    own = slice(sum(shares[:rank]), sum(shares[: rank + 1]))
    image = inputs.image[own].clone().requires_grad_()
    text = inputs.text[own.start * captions : own.stop * captions].clone().requires_grad_()
    assert inputs.identity_ids is not None
    ids = {"image_ids": inputs.image_ids[own], "identity_ids": inputs.identity_ids[own]}
    captions_here = inputs.caption_ids[own.start * captions : own.stop * captions]
    part = replace(inputs, image=image, text=text, caption_ids=captions_here, **ids, shares=shares)
    loss = large_sdm_loss(part, SCALE)
    loss.backward()
    assert image.grad is not None
    assert text.grad is not None
    return {"loss": loss.detach(), "image": image.grad, "text": text.grad}


def expected(captions: int = 2) -> dict[str, Tensor]:
    inputs = whole(captions)
    image, text = inputs.image.requires_grad_(), inputs.text.requires_grad_()
    loss = sdm_loss(*inputs.unit, SCALE, *inputs.identities)
    loss.backward()
    assert image.grad is not None
    assert text.grad is not None
    return {"loss": loss.detach(), "image": image.grad, "text": text.grad}


@pytest.mark.parametrize("elements", [1, 20, 1 << 20])
def test_blocks_give_value_and_gradients_of_the_whole(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdm, "BLOCK_ELEMENTS", elements)
    inputs = whole()
    image, text = inputs.image.requires_grad_(), inputs.text.requires_grad_()
    loss = large_sdm_loss(inputs, SCALE)
    loss.backward()
    for name, value in {"loss": loss.detach(), "image": image.grad, "text": text.grad}.items():
        torch.testing.assert_close(value, expected()[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shares", SHARES, ids=str)
def test_the_mean_over_ranks_is_the_loss_of_the_whole_batch(shares: tuple[int, ...]) -> None:
    found, wanted = run_ranks(of_share, len(shares), shares), expected()
    torch.testing.assert_close(torch.stack([one["loss"] for one in found]).mean(), wanted["loss"])
    for side in ("image", "text"):
        torch.testing.assert_close(torch.cat([one[side] for one in found]) / len(shares), wanted[side])
