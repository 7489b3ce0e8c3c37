"""Guessing hidden words: a mean over the words of all ranks, however they are spread."""

import math

import pytest
import torch
from torch import Tensor

from pocketclip.losses.masked_language import masked_language_loss
from processes import run_ranks


def guesses(count: int = 5) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(count, 11, generator=random, dtype=torch.float64), torch.arange(count) * 2


def test_it_equals_a_slow_loop() -> None:
    logits, words = guesses()
    losses = [math.log(sum(map(math.exp, row))) - row[word] for row, word in zip(logits.tolist(), words, strict=True)]
    assert float(masked_language_loss(logits, words)) == pytest.approx(sum(losses) / 5, rel=1e-10)


def test_who_knows_nothing_pays_the_logarithm_of_the_vocabulary_and_no_word_costs_nothing() -> None:
    logits, words = torch.zeros(3, 20, requires_grad=True), torch.tensor([0, 7, 19])
    assert float(masked_language_loss(logits, words)) == pytest.approx(math.log(20))
    nothing = masked_language_loss(logits[:0], words[:0])
    nothing.backward()
    assert float(nothing) == 0


def of_share(rank: int, starts: list[int]) -> float:
    logits, words = guesses()
    own = slice(starts[rank], starts[rank + 1])
    return float(masked_language_loss(logits[own], words[own], (4, 4)))


@pytest.mark.parametrize("starts", [[0, 1, 5], [0, 5, 5]])
def test_ranks_with_few_words_or_none_weigh_as_their_words_do(starts: list[int]) -> None:
    expected = float(masked_language_loss(*guesses()))
    assert sum(run_ranks(of_share, 2, starts)) / 2 == pytest.approx(expected, rel=1e-10)
