"""Hides words of captions, which a model then guesses from the others and from the picture.

Reference: BERT, https://arxiv.org/abs/1810.04805, section 3.1, whose shares IRRA takes over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from pocketclip.tokenizer import Tokenizer
from pocketclip.types import NOT_HIDDEN

MASK_TOKENS = ("[MASK]", "<mask>", "<|mask|>")
SHARE_MASKED, SHARE_REPLACED = 0.8, 0.1
"""Of the words to guess: those that the mask stands for, and those that another word stands for; the rest stay."""
_MASK_ORDER = 17  # keeps these draws apart from others of the same numbers
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Masking:
    """Which words are hidden, and behind what."""

    rate: float
    mask: int | None
    """The tokenizer's id for a hidden word; None where it has none, and another word stands for each."""
    words: Ids
    """All ids but those of special tokens."""

    @classmethod
    def of(cls, tokenizer: Tokenizer, rate: float) -> Self:
        """Of a tokenizer's own ids."""
        special = set(tokenizer.core.get_added_tokens_decoder())
        known = [tokenizer.core.token_to_id(name) for name in MASK_TOKENS]
        mask = next((number for number in known if number is not None), None)
        words = [number for number in range(tokenizer.vocabulary_size) if number not in special]
        return cls(rate, mask, np.array(words, np.int64))

    def hide(self, tokens: Ids, token_mask: npt.NDArray[np.bool_], seeds: Sequence[Sequence[int]]) -> tuple[Ids, Ids]:
        """(M, L) ids with hidden words, and (M, L) the ids to guess, `NOT_HIDDEN` elsewhere; one in each text at least.

        The first and the last token, which are special, always stay. The seeds name what is drawn for each text, so
        that neither the batch nor the process matters.
        """
        seen, hidden = tokens.copy(), np.full_like(tokens, NOT_HIDDEN)
        for row, (length, seed) in enumerate(zip(token_mask.sum(1).tolist(), seeds, strict=True)):
            if (count := length - 2) < 1:
                continue
            random = np.random.default_rng([*seed, _MASK_ORDER])
            chosen = random.random(count) < self.rate
            chosen[random.integers(count)] |= not chosen.any()
            places = 1 + np.flatnonzero(chosen)
            hidden[row, places] = tokens[row, places]
            fate, others = random.random(len(places)), random.choice(self.words, len(places))
            masked = fate < SHARE_MASKED
            replaced = fate < SHARE_MASKED + SHARE_REPLACED
            stands = np.where(masked & (self.mask is not None), self.mask or 0, others)
            seen[row, places[replaced]] = stands[replaced]
        return seen, hidden
