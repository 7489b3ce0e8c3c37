import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pocketclip.errors import UserError
from pocketclip.tokenizer import (
    MAX_CAPTION_CHARACTERS,
    SPECIAL_TOKENS,
    Tokenizer,
    TokenizerKind,
    check_tokenizer_settings,
    train_tokenizer,
)

TEXTS = ["a dog runs", "a cat sleeps", "two dogs in the snow", "the cat and the dog", "a red ball"]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, vocabulary_size=120, context_length=8)


def test_a_batch_equals_its_texts_one_by_one_padded_with_zeros(tokenizer: Tokenizer) -> None:
    tokens, mask = tokenizer.encode(TEXTS)
    for row, present, text in zip(tokens, mask, TEXTS, strict=True):
        ids = tokenizer.core.encode(text).ids
        assert row.tolist() == ids + [0] * (len(row) - len(ids))
        assert present.tolist() == [True] * len(ids) + [False] * (len(row) - len(ids))


def test_a_batch_is_as_wide_as_its_longest_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(["a dog"])[0].shape == (1, 4)  # with [CLS] and [SEP]
    assert tokenizer.encode(["a dog", "the cat and the dog"])[0].shape == (2, 7)


def test_types_are_what_the_towers_take(tokenizer: Tokenizer) -> None:
    tokens, mask = tokenizer.encode(TEXTS)
    assert tokens.dtype == np.int64
    assert mask.dtype == np.bool_


def test_a_text_too_long_is_cut_and_keeps_its_last_special_token(tokenizer: Tokenizer) -> None:
    tokens, mask = tokenizer.encode(["dog " * 10_000, "a dog"])
    assert tokens.shape == (2, 8)
    assert mask[0].all()
    separator = tokenizer.core.token_to_id("[SEP]")
    assert tokens[0, -1] == separator
    assert tokens[1, 3] == separator


def test_characters_beyond_the_limit_change_nothing() -> None:
    tokenizer = train_tokenizer(["a b c d"], vocabulary_size=60, context_length=60_000)
    long = "a " * MAX_CAPTION_CHARACTERS
    assert np.array_equal(tokenizer.encode([long])[0], tokenizer.encode([long[:MAX_CAPTION_CHARACTERS]])[0])
    assert tokenizer.encode([long])[0].shape[1] == MAX_CAPTION_CHARACTERS // 2 + 2


def test_no_texts_give_no_rows(tokenizer: Tokenizer) -> None:
    tokens, mask = tokenizer.encode([])
    assert tokens.shape == mask.shape == (0, 0)
    assert tokens.dtype == np.int64


def test_an_empty_text_is_its_special_tokens_alone(tokenizer: Tokenizer) -> None:
    tokens, mask = tokenizer.encode(["", "a dog"])
    assert mask.sum(axis=1).tolist() == [2, 4]
    assert [tokenizer.core.id_to_token(int(number)) for number in tokens[0, :2]] == ["[CLS]", "[SEP]"]


def test_an_unknown_sign_is_not_dropped(tokenizer: Tokenizer) -> None:
    tokens, _ = tokenizer.encode(["狗"])
    assert tokenizer.core.token_to_id("[UNK]") in tokens[0]


def test_case_makes_no_difference_to_a_trained_tokenizer(tokenizer: Tokenizer) -> None:
    assert np.array_equal(tokenizer.encode(["A DOG"])[0], tokenizer.encode(["a dog"])[0])


def test_training_twice_gives_the_same_tokenizer() -> None:
    first, second = (train_tokenizer(TEXTS, vocabulary_size=120, context_length=8) for _ in range(2))
    assert first.to_json() == second.to_json()


def test_every_id_is_below_the_vocabulary_size(tokenizer: Tokenizer) -> None:
    tokens, _ = tokenizer.encode([*TEXTS, "unseen words zebra", "狗"])
    assert tokens.max() < tokenizer.vocabulary_size <= 120


def test_the_padding_token_is_number_zero(tokenizer: Tokenizer) -> None:
    assert tokenizer.core.token_to_id("[PAD]") == 0


def test_a_written_tokenizer_reads_back_and_encodes_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_json())
    again = Tokenizer.from_file(path, context_length=8)
    for mine, theirs in zip(tokenizer.encode(TEXTS), again.encode(TEXTS), strict=True):
        assert np.array_equal(mine, theirs)
    assert again.vocabulary_size == tokenizer.vocabulary_size


def test_padding_written_in_the_file_is_replaced_by_ours(tokenizer: Tokenizer, tmp_path: Path) -> None:
    values = json.loads(tokenizer.to_json())
    values["padding"] = {
        "strategy": {"Fixed": 32}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 4, "pad_type_id": 0,
        "pad_token": "[MASK]",
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    again = Tokenizer.from_file(tmp_path / "tokenizer.json", context_length=8)
    assert np.array_equal(again.encode(TEXTS)[0], tokenizer.encode(TEXTS)[0])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such tokenizer file") as caught:
        Tokenizer.from_file(tmp_path / "none.json", context_length=8)
    assert str(tmp_path / "none.json") in str(caught.value)


def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="not a tokenizer") as caught:
        Tokenizer.from_file(tmp_path / "tokenizer.json", context_length=8)
    assert str(tmp_path / "tokenizer.json") in str(caught.value)


def test_a_context_length_of_zero_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=r"context_length must be at least 1 \(got 0\)"):
        Tokenizer(tokenizer.core, 0)


KINDS: tuple[TokenizerKind, ...] = ("wordpiece", "bpe", "unigram")
MORE = [f"{size} {colour} {shape}s near {size} things" for size in ("small", "large") for colour in ("red", "blue")
        for shape in ("circle", "square", "star")]  # fmt: skip


def learn(kind: TokenizerKind, texts: list[str] = MORE, size: int = 330, context_length: int = 40) -> Tokenizer:
    return train_tokenizer(texts, vocabulary_size=size, context_length=context_length, kind=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_the_same_each_time(kind: TokenizerKind) -> None:
    assert len({learn(kind).to_json() for _ in range(4)}) == 1
    in_another_process = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, 'tests'); import test_tokenizer as t; "
         f"print(t.learn({kind!r}).to_json(), end='')"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert in_another_process.stdout == learn(kind).to_json()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_same_special_tokens_around_a_text(kind: TokenizerKind) -> None:
    tokenizer = learn(kind)
    assert [tokenizer.core.id_to_token(number) for number in range(5)] == list(SPECIAL_TOKENS)
    for text in ("a small star", ""):
        tokens = tokenizer.core.encode(text).tokens
        assert (tokens[0], tokens[-1]) == ("[CLS]", "[SEP]")
    cut, _ = learn(kind, context_length=4).encode(["small red circles near large things"])
    assert (cut.shape, cut[0, 0], cut[0, -1]) == ((1, 4), 2, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_reads_back_from_its_file(kind: TokenizerKind, tmp_path: Path) -> None:
    tokenizer = learn(kind)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    again = Tokenizer.from_file(tmp_path / "tokenizer.json", context_length=40)
    assert again.to_json() == tokenizer.to_json()
    texts = [*MORE, "unseen words, 狗 and ÉTÉ"]
    assert np.array_equal(again.encode(texts)[0], tokenizer.encode(texts)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_common_words_whole_and_ignores_case(kind: TokenizerKind) -> None:
    tokenizer = learn(kind, MORE * 3)
    assert len(tokenizer.core.encode("small").ids) == 3
    assert tokenizer.core.encode("SMALL Red").ids == tokenizer.core.encode("small red").ids
    assert tokenizer.vocabulary_size <= 330


def test_byte_pairs_know_every_sign() -> None:
    tokenizer = learn("bpe", TEXTS)
    tokens, mask = tokenizer.encode(["狗 🐕 naïve"])
    assert tokenizer.core.token_to_id("[UNK]") not in tokens[mask]
    assert tokens.max() < tokenizer.vocabulary_size


def test_an_unknown_sign_is_unknown_to_unigram() -> None:
    assert 1 in learn("unigram").encode(["狗"])[0]


def test_unigram_scores_are_logarithms_of_the_pieces_probabilities() -> None:
    values = json.loads(learn("unigram").to_json())["model"]
    scores = [score for piece, score in values["vocab"] if piece not in SPECIAL_TOKENS]
    assert sum(map(math.exp, scores)) == pytest.approx(1, abs=1e-3)
    assert scores == sorted(scores, reverse=True)
    assert values["unk_id"] == 1


@pytest.mark.parametrize(("kind", "least"), [("wordpiece", 6), ("bpe", 261), ("unigram", 6)])
def test_a_vocabulary_too_small_for_its_kind_is_refused(kind: TokenizerKind, least: int) -> None:
    with pytest.raises(UserError, match=rf"tokenizer of kind {kind} has at least {least} ids \(got {least - 1}\)"):
        learn(kind, size=least - 1)
    assert learn(kind, size=least).vocabulary_size >= 5


@pytest.mark.parametrize("kind", KINDS)
def test_no_captions_still_give_a_tokenizer(kind: TokenizerKind) -> None:
    assert learn(kind, []).encode(["a"])[1].sum() >= 2


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (("captions", "bpe", "occurring", None), "vocabulary: occurring has no effect on tokenizer: captions"),
        (("bert", "bpe", "all", None), "tokenizer_kind: bpe has no effect on tokenizer: bert"),
        (("bert", "wordpiece", "all", 4096), "vocabulary_at_most: 4096 has no effect on vocabulary: all"),
    ],
)
def test_settings_without_effect_are_refused(
    settings: tuple[str, TokenizerKind, str, int | None], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        check_tokenizer_settings(*settings)
    check_tokenizer_settings("captions", "unigram", "all", None)
    check_tokenizer_settings("bert", "wordpiece", "occurring", None)
    check_tokenizer_settings("bert", "wordpiece", "occurring", 4096)
