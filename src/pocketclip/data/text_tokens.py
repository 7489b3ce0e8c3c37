"""Fewer tokens of a text than it has, as CLIPA trains the text tower on most of its samples.

Reference: CLIPA, https://arxiv.org/abs/2305.07017, section 3.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pocketclip.config import Config
from pocketclip.data.parts_of_speech import kind_of_word
from pocketclip.tokenizer import Tokenizer

_TEXT_ORDER = 11  # keeps these draws apart from others of the same numbers


class TextTokensConfig(Config):
    """Which tokens of a longer text are kept; the first and the last one, which are special, always stay."""

    kind: Literal["truncate", "random", "block", "syntax"]
    """`truncate` keeps the first ones, `random` any, `block` a part without gaps that begins anywhere, and `syntax`
    nouns, then adjectives, then verbs, then the rest, by a list of English words (see `data/parts_of_speech.py`). They
    keep their order."""
    keep: Annotated[int, Field(ge=3)]
    """Tokens of a text at most, the first and the last one included; CLIPA has 8 and 16."""


def kept_places(
    config: TextTokensConfig, length: int, random: np.random.Generator, ranks: Sequence[int] | None = None
) -> npt.NDArray[np.int64]:
    """Places of the tokens that stay of a text of so many, ascending; `ranks` of all of them are for `syntax`."""
    if length <= config.keep:
        return np.arange(length)
    inner, count = np.arange(1, length - 1), config.keep - 2
    if config.kind == "random":
        chosen = np.sort(random.permutation(inner)[:count])
    elif config.kind == "block":
        start = int(random.integers(len(inner) - count + 1))
        chosen = inner[start : start + count]
    elif config.kind == "syntax":
        assert ranks is not None
        chosen = np.sort(inner[np.argsort(np.asarray(ranks)[inner], kind="stable")[:count]])
    else:
        chosen = inner[:count]
    return np.concatenate([[0], chosen, [length - 1]])


def encode_reduced(
    config: TextTokensConfig, tokenizer: Tokenizer, texts: Sequence[str], seeds: Sequence[Sequence[int]]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """(M, L) ids and mask of texts, as `Tokenizer.encode` gives them, with at most `keep` tokens each.

    The seeds name what is drawn for each text, so that neither the batch nor the process matters.
    """
    tokens, mask = tokenizer.encode(texts)
    lengths = mask.sum(1)
    ranks: Sequence[Sequence[int] | None] = [None] * len(texts)
    if config.kind == "syntax":
        ranks = [[kind_of_word(word) for word in words] for words in tokenizer.words_of_tokens(texts)]
    places = [
        kept_places(config, int(length), np.random.default_rng([*seed, _TEXT_ORDER]), rank)
        for length, seed, rank in zip(lengths, seeds, ranks, strict=True)
    ]
    counts = np.array([len(kept) for kept in places])
    kept_mask = np.arange(max(counts, default=0)) < counts[:, None]
    reduced = np.zeros(kept_mask.shape, dtype=np.int64)
    for row, kept in enumerate(places):
        reduced[row, : len(kept)] = tokens[row, kept]
    return reduced, kept_mask
