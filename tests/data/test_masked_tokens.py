"""Which words are hidden, behind what, and that neither batch nor process matters."""

import numpy as np
import pytest

from pocketclip.data.masked_tokens import Masking
from pocketclip.tokenizer import SPECIAL_TOKENS, Tokenizer
from pocketclip.types import NOT_HIDDEN

TEXTS = [f"picture {number} caption {line}" for number in range(20) for line in range(5)] * 20
SEEDS = [[number] for number in range(len(TEXTS))]


def test_shares_are_those_of_bert(tokenizer: Tokenizer) -> None:
    tokens, mask = tokenizer.encode(TEXTS)
    masking = Masking.of(tokenizer, 0.3)
    seen, hidden = masking.hide(tokens, mask, SEEDS)
    asked = hidden != NOT_HIDDEN
    assert np.array_equal(hidden[asked], tokens[asked])
    assert np.array_equal(seen[~asked], tokens[~asked])
    inner = mask.sum() - 2 * len(TEXTS)
    assert asked.sum() / inner == pytest.approx(0.3 + 0.7**4 / 4, abs=0.03)  # of four words one at least
    masked, kept = (seen[asked] == masking.mask).mean(), (seen[asked] == tokens[asked]).mean()
    assert masked == pytest.approx(0.8, abs=0.03)
    assert kept == pytest.approx(0.1, abs=0.03)


def test_each_text_hides_a_word_and_no_special_one(tokenizer: Tokenizer) -> None:
    tokens, mask = tokenizer.encode(["caption", "picture 3 caption 1", ""])
    seen, hidden = Masking.of(tokenizer, 0.001).hide(tokens, mask, [[0], [1], [2]])
    assert (hidden != NOT_HIDDEN).sum(1).tolist() == [1, 1, 0]
    assert not np.isin(hidden[hidden != NOT_HIDDEN], range(len(SPECIAL_TOKENS))).any()
    assert np.array_equal(seen[2], tokens[2])


def test_what_is_hidden_hangs_on_the_text_and_its_seed_alone(tokenizer: Tokenizer) -> None:
    tokens, mask = tokenizer.encode(TEXTS[:30])
    masking = Masking.of(tokenizer, 0.3)
    whole = masking.hide(tokens, mask, SEEDS[:30])
    part = masking.hide(tokens[10:20], mask[10:20], SEEDS[10:20])
    assert all(np.array_equal(one[10:20], other) for one, other in zip(whole, part, strict=True))


def test_without_a_mask_token_other_words_stand_in_its_place(tokenizer: Tokenizer) -> None:
    tokens, mask = tokenizer.encode(TEXTS)
    masking = Masking.of(tokenizer, 0.3)
    seen, hidden = Masking(0.3, None, masking.words).hide(tokens, mask, SEEDS)
    asked = hidden != NOT_HIDDEN
    assert not (seen == masking.mask).any()
    assert (seen[asked] != tokens[asked]).mean() == pytest.approx(0.9, abs=0.04)
