"""The pieces of a unigram tokenizer, learned from words; SentencePiece's method in plain Python.

The trainer of the `tokenizers` library takes a word once however often it occurs, so that common words are no pieces of
their own, and adds probabilities in a new order each time, which numbers the pieces anew; `sentencepiece` is a
compiled package that nothing else here needs.

Reference: Subword Regularization, https://arxiv.org/abs/1804.10959, section 3.2.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

MAX_PIECE_LETTERS = 16
MAX_LETTERS = 250_000
"""Of all different words together, the commonest first: some 30,000 words of a language with spaces."""
SEEDS_PER_PIECE = 10
KEPT_A_ROUND = 0.75
ROUNDS_OF_EXPECTATION = 4
"""Between two prunings; common words become pieces after two."""
LEAST_PROBABILITY = 1e-12

Spans = Sequence[tuple[int, int, str]]
"""Where pieces begin and end in a word, by their ends."""


def learn_pieces(words: Mapping[str, int], size: int) -> dict[str, float]:
    """The pieces that make the words most probable, with the logarithms of their probabilities, the highest first.

    The same words give the same pieces and numbers, in whatever order they come.

    Args:
        words: how often each occurs; they are split one by one.
        size: most pieces. Every letter is one of them, the commonest where there are too many.
    """
    letters = _most(_parts(words, 1, 1), size)
    ordered = _most(words, len(words))
    letters_so_far = accumulate(len(word) for word in ordered)
    common = {word: words[word] for word, so_far in zip(ordered, letters_so_far, strict=True) if so_far <= MAX_LETTERS}
    parts = _parts(common, 2, MAX_PIECE_LETTERS)
    seeds = _most({part: count * len(part) for part, count in parts.items() if count > 1}, SEEDS_PER_PIECE * size)
    pieces = sorted({*seeds, *letters})
    probability = dict.fromkeys(pieces, 1 / max(1, len(pieces)))
    spans = {word: list(_spans(word, probability)) for word in common}
    while True:
        expected: Mapping[str, float] = {}
        for _ in range(ROUNDS_OF_EXPECTATION):
            expected, probability = estimate(common, spans, probability)
        if len(probability) <= size:
            break
        probability = _prune(probability, expected, letters, max(size, int(KEPT_A_ROUND * len(probability))))
        spans = {word: [span for span in inside if span[2] in probability] for word, inside in spans.items()}
    scores = {piece: round(math.log(value), 6) for piece, value in probability.items()}
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))


def _most(counts: Mapping[str, float], size: int) -> list[str]:
    return sorted(counts, key=lambda piece: (-counts[piece], piece))[:size]


def _parts(words: Mapping[str, int], least: int, most: int) -> Counter[str]:
    """How often each part of `least` to `most` letters occurs in the words."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for start in range(len(word)):
            for end in range(start + least, min(len(word), start + most) + 1):
                counts[word[start:end]] += count
    return counts


def _spans(word: str, pieces: Mapping[str, float]) -> Iterator[tuple[int, int, str]]:
    for end in range(1, len(word) + 1):
        for start in range(max(0, end - MAX_PIECE_LETTERS), end):
            if word[start:end] in pieces:
                yield start, end, word[start:end]


def estimate(
    words: Mapping[str, int], spans: Mapping[str, Spans], probability: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, float]]:
    """How often each piece is expected in all splits of all words, of which `words` has the counts, and how probable.

    One step of expectation maximisation.
    """
    expected: defaultdict[str, float] = defaultdict(float)
    for word, inside in spans.items():
        before, after = [1.0] + [0.0] * len(word), [0.0] * len(word) + [1.0]
        for start, end, piece in inside:
            before[end] += before[start] * probability[piece]
        for start, end, piece in reversed(inside):
            after[start] += after[end] * probability[piece]
        if before[-1] > 0:  # a word with an unknown letter has no split, and the longest ones underflow
            share = words[word] / before[-1]
            for start, end, piece in inside:
                expected[piece] += share * before[start] * probability[piece] * after[end]
    total = sum(expected.values()) or 1.0
    return expected, {piece: max(expected[piece] / total, LEAST_PROBABILITY) for piece in probability}


def _prune(
    probability: Mapping[str, float], expected: Mapping[str, float], letters: Iterable[str], size: int
) -> dict[str, float]:
    """The pieces without which the words would lose most, and every letter."""
    score = {piece: math.log(value) for piece, value in probability.items()}
    always = set(letters)
    loss = {
        piece: expected[piece] * (score[piece] - _best_split(piece, score)) for piece in score if piece not in always
    }
    kept = _most(loss, size - len(always))
    return {piece: probability[piece] for piece in sorted({*kept, *always})}


def _best_split(piece: str, score: Mapping[str, float]) -> float:
    """The score of the best split of a piece into others."""
    best = [0.0] + [-math.inf] * len(piece)
    for start, end, part in _spans(piece, score):
        if part != piece:
            best[end] = max(best[end], best[start] + score[part])
    return best[-1]
