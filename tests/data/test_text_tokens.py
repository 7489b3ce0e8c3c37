"""Texts lose tokens as CLIPA's do; the special ones and the order stay, and what is drawn hangs on the seeds alone."""

import numpy as np
import pytest

from pocketclip.data.text_tokens import TextTokensConfig, encode_reduced, kept_places
from pocketclip.errors import UserError
from pocketclip.tokenizer import Tokenizer, TokenizerKind, train_tokenizer

CAPTIONS = [
    "a brown dog is running through the deep snow",
    "two children in red coats are climbing a tall tree near the river",
    "snow",
    "",
]
KINDS = ("truncate", "random", "block", "syntax")
WORDS: tuple[TokenizerKind, ...] = ("wordpiece", "bpe", "unigram")


def tokenizer(kind: TokenizerKind = "wordpiece", size: int = 400) -> Tokenizer:
    return train_tokenizer(CAPTIONS, vocabulary_size=size, context_length=32, kind=kind)


def reduced(kind: str, keep: int, seed: int = 0, texts: list[str] | None = None) -> tuple[list[list[int]], Tokenizer]:
    config, own = TextTokensConfig(kind=kind, keep=keep), tokenizer()  # type: ignore[arg-type]
    texts = CAPTIONS if texts is None else texts
    tokens, mask = encode_reduced(config, own, texts, [[seed, number] for number in range(len(texts))])
    assert tokens.shape == mask.shape
    assert (tokens[~mask] == 0).all()
    return [row[kept].tolist() for row, kept in zip(tokens, mask, strict=True)], own


def is_part_of(part: list[int], whole: list[int]) -> bool:
    rest = iter(whole)
    return all(token in rest for token in part)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", [3, 6, 8])
def test_first_and_last_stay_and_the_order_does(kind: str, keep: int) -> None:
    rows, own = reduced(kind, keep)
    whole, mask = own.encode(CAPTIONS)
    for row, ids, length in zip(rows, whole.tolist(), mask.sum(1), strict=True):
        ids = ids[:length]
        assert len(row) == min(keep, length)
        assert (row[0], row[-1]) == (2, 3)
        assert is_part_of(row, ids)
        if length <= keep:
            assert row == ids


def words_of(row: list[int], own: Tokenizer) -> str:
    return str(own.core.decode(row))


def test_truncate_keeps_the_first_ones() -> None:
    rows, own = reduced("truncate", 5)
    assert words_of(rows[0], own) == "a brown dog"


def test_syntax_keeps_nouns_then_adjectives_then_verbs() -> None:
    for keep, expected in ((4, "dog snow"), (6, "brown dog deep snow"), (7, "brown dog running deep snow")):
        rows, own = reduced("syntax", keep)
        assert words_of(rows[0], own) == expected


def test_block_has_no_gaps_and_begins_anywhere() -> None:
    starts = set()
    for seed in range(40):
        rows, own = reduced("block", 6, seed)
        whole = own.encode(CAPTIONS[:1])[0][0].tolist()
        inner = rows[0][1:-1]
        start = next(place for place in range(len(whole)) if whole[place : place + 4] == inner)
        starts.add(start)
    assert starts == set(range(1, 7))  # nine words


def test_random_keeps_each_token_equally_often() -> None:
    config, counts = TextTokensConfig(kind="random", keep=6), np.zeros(12)
    for seed in range(3000):
        places = kept_places(config, 12, np.random.default_rng(seed))
        assert (np.diff(places) > 0).all()
        counts[places] += 1
    assert counts[0] == counts[-1] == 3000
    assert np.abs(counts[1:-1] / 3000 - 0.4).max() < 0.04


@pytest.mark.parametrize("kind", ["random", "block"])
def test_what_is_drawn_hangs_on_the_texts_own_seed(kind: str) -> None:
    together, _ = reduced(kind, 5)
    config, own = TextTokensConfig(kind=kind, keep=5), tokenizer()  # type: ignore[arg-type]
    alone, _ = encode_reduced(config, own, CAPTIONS[1:2], [[0, 1]])
    assert alone[0].tolist() == together[1]
    assert any(reduced(kind, 5, seed)[0][1] != together[1] for seed in range(1, 6))


@pytest.mark.parametrize("kind", WORDS)
def test_a_token_knows_its_word_however_it_is_split(kind: TokenizerKind) -> None:
    own = tokenizer(kind, 300 if kind == "bpe" else 60)
    text = "Two children’s red coats, it's snow-covered"
    words = own.words_of_tokens([text])[0]
    assert words[0] == words[-1] == ""
    assert len(words) == len(own.encode([text])[0][0])
    found = list(dict.fromkeys(word for word in words if word))
    assert [word for word in found if word != ","] == ["Two", "children’s", "red", "coats", "it's", "snow-covered"]


def test_no_texts_are_no_rows() -> None:
    tokens, mask = encode_reduced(TextTokensConfig(kind="syntax", keep=4), tokenizer(), [], [])
    assert len(tokens) == len(mask) == 0


def test_two_special_tokens_and_nothing_between_are_refused() -> None:
    with pytest.raises(UserError, match="keep: Input should be greater than or equal to 3"):
        TextTokensConfig.parse({"kind": "random", "keep": 2}, place="test")
