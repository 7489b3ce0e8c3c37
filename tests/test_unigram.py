"""Unigram pieces: expectation maximisation against every split written out, what is pruned, and the order of words."""

import math
import random
from collections.abc import Iterator

import pytest

from pocketclip.unigram import MAX_PIECE_LETTERS, estimate, learn_pieces

WORDS = {"▁small": 40, "▁large": 40, "▁star": 30, "▁stars": 20, "▁circle": 25, "▁circles": 15, "▁near": 40, "▁a": 90}


def splits(word: str, pieces: set[str]) -> Iterator[tuple[str, ...]]:
    if not word:
        yield ()
    for end in range(1, len(word) + 1):
        if word[:end] in pieces:
            for rest in splits(word[end:], pieces):
                yield (word[:end], *rest)


def test_a_step_equals_a_sum_over_all_splits() -> None:
    draw = random.Random(0)
    words = {"".join(draw.choices("abc", k=draw.randint(1, 6))): draw.randint(1, 9) for _ in range(20)}
    pieces = {word[start:end] for word in words for start in range(len(word)) for end in range(start + 1, start + 4)}
    probability = {piece: draw.random() for piece in sorted(pieces)}
    slow = dict.fromkeys(probability, 0.0)
    for word, count in words.items():
        weights = {split: math.prod(probability[piece] for piece in split) for split in splits(word, pieces)}
        for split, weight in weights.items():
            for piece in split:
                slow[piece] += count * weight / sum(weights.values())
    spans = {
        word: [(start, end, word[start:end]) for end in range(len(word) + 1) for start in range(end)
               if word[start:end] in pieces]
        for word in words
    }  # fmt: skip
    expected, new = estimate(words, spans, probability)
    assert expected == pytest.approx({piece: count for piece, count in slow.items() if count}, rel=1e-12)
    total = sum(slow.values())
    assert new == pytest.approx({piece: count / total for piece, count in slow.items()}, rel=1e-12, abs=1e-11)


def test_steps_never_make_the_words_less_probable() -> None:
    words = {"ab": 5, "abc": 3, "bca": 2, "a": 4, "c": 1}
    pieces = {"a", "b", "c", "ab", "bc", "abc"}
    probability = dict.fromkeys(sorted(pieces), 1 / 6)
    spans = {
        word: [(start, end, word[start:end]) for end in range(len(word) + 1) for start in range(end)
               if word[start:end] in pieces]
        for word in words
    }  # fmt: skip

    def likelihood() -> float:
        sums = {w: sum(math.prod(probability[p] for p in split) for split in splits(w, pieces)) for w in words}
        return sum(count * math.log(sums[word]) for word, count in words.items())

    values = [likelihood()]
    for _ in range(6):
        _, probability = estimate(words, spans, probability)
        values.append(likelihood())
    assert values == sorted(values)
    assert values[-1] > values[0]


def test_common_words_are_pieces_and_every_letter_is_one() -> None:
    scores = learn_pieces(WORDS, 24)
    assert len(scores) == 24
    assert {letter for word in WORDS for letter in word} <= set(scores)
    assert {"▁a", "▁small", "▁large", "▁near"} <= set(scores)
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert sum(map(math.exp, scores.values())) == pytest.approx(1, abs=1e-4)


def test_the_order_of_the_words_changes_nothing() -> None:
    backwards = dict(reversed(WORDS.items()))
    assert list(learn_pieces(WORDS, 30).items()) == list(learn_pieces(backwards, 30).items())


def test_letters_are_the_commonest_where_there_are_too_many() -> None:
    assert set(learn_pieces({"ab": 5, "c": 9, "d": 1}, 2)) == {"c", "a"}


def test_pieces_have_a_greatest_length() -> None:
    scores = learn_pieces({"x" * 40: 10, "y" * (MAX_PIECE_LETTERS + 1): 10}, 100)
    assert max(map(len, scores)) == MAX_PIECE_LETTERS


def test_a_word_too_long_to_count_with_is_left_out() -> None:
    scores = learn_pieces({"ab" * 10_000: 1, "cd": 3}, 20)
    assert {"a", "b", "c", "d", "cd"} <= set(scores)
    assert all(map(math.isfinite, scores.values()))


def test_no_words_give_no_pieces() -> None:
    assert learn_pieces({}, 10) == {}
