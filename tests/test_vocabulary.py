"""Cutting a tokenizer down: what is kept is split as before, everything else into smaller pieces that exist."""

import itertools
import json
import random
from collections.abc import Callable

import numpy as np
import pytest
import tokenizers
from tokenizers import AddedToken, models, pre_tokenizers, processors

from pocketclip.errors import UserError
from pocketclip.models.text.config import HuggingFaceTextEncoderConfig
from pocketclip.tokenizer import SPECIAL_TOKENS, Tokenizer, TokenizerKind, train_tokenizer
from pocketclip.vocabulary import keep_occurring

KINDS: tuple[TokenizerKind, ...] = ("wordpiece", "bpe", "unigram")
LETTERS = "abcdefghij"


def words(seed: int, count: int) -> list[str]:
    """Texts of words that share beginnings, so that there are long pieces to learn."""
    draw = random.Random(seed)
    stems = ["".join(draw.choices(LETTERS, k=draw.randint(2, 5))) for _ in range(30)]
    return [
        " ".join("".join(draw.choices(stems, k=draw.randint(1, 3))) for _ in range(draw.randint(1, 6)))
        for _ in range(count)
    ]


def learned(kind: TokenizerKind) -> Tokenizer:
    return train_tokenizer(
        [*words(0, 400), LETTERS, " ".join(LETTERS)], vocabulary_size=500, context_length=40, kind=kind
    )


def clip_kind() -> Tokenizer:
    """Byte pairs as CLIP writes them: a mark ends each word, and the special tokens stand last."""
    letters = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    pairs, vocabulary = [], dict.fromkeys(letters)
    for left, right in (
        ("a", "b"),
        ("ab", "c</w>"),
        ("c", "d"),
        ("d", "e"),
        ("cd", "e"),
        ("ab", "cde"),
        ("e", "f</w>"),
    ):
        pairs.append((left, right))
        vocabulary[left + right] = None
    numbered = {piece: number for number, piece in enumerate([*vocabulary, "<start>", "<end>"])}
    core = tokenizers.Tokenizer(models.BPE(numbered, pairs, end_of_word_suffix="</w>", unk_token="<end>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.add_special_tokens(["<start>", "<end>"])
    ends = [(mark, numbered[mark]) for mark in ("<end>", "<start>")]
    core.post_processor = processors.RobertaProcessing(*ends, add_prefix_space=False)
    return Tokenizer(core, 40)


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    **{kind: lambda kind=kind: learned(kind) for kind in KINDS},  # type: ignore[misc]
    "clip": clip_kind,
}


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return list(tokenizer.core.encode(text).tokens)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_text_of_kept_tokens_is_split_as_before_and_the_ids_follow(name: str) -> None:
    tokenizer, texts = TOKENIZERS[name](), words(0, 25)
    smaller, kept = keep_occurring(tokenizer, texts)
    assert kept == sorted(set(kept))
    assert smaller.vocabulary_size == len(kept) < tokenizer.vocabulary_size
    known = set(kept)
    num_others = 0
    for text in [*texts, *words(0, 400), *words(5, 400)]:
        old, _ = tokenizer.encode([text])
        if known.issuperset(old[0].tolist()):
            new, _ = smaller.encode([text])
            assert [kept[number] for number in new[0]] == old[0].tolist(), text
            num_others += text not in texts
    assert num_others > 5  # not the given texts alone


@pytest.mark.parametrize("name", TOKENIZERS)
def test_other_texts_fall_into_smaller_pieces_and_nothing_becomes_unknown(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    smaller, kept = keep_occurring(tokenizer, words(0, 5))
    unknown = {number for number in map(smaller.core.token_to_id, ("[UNK]", "<unk>")) if number is not None}
    num_split = 0
    for text in words(7, 300):
        new = smaller.core.encode(text)
        assert not unknown & set(new.ids), text
        assert max(new.ids) < len(kept)
        num_split += len(new.ids) > len(tokenizer.core.encode(text).ids)
    assert num_split > 20


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_cut_tokenizer_reads_back_and_cutting_it_again_changes_nothing(name: str) -> None:
    texts = words(0, 25)
    smaller, kept = keep_occurring(TOKENIZERS[name](), texts)
    again = Tokenizer(tokenizers.Tokenizer.from_str(smaller.to_json()), 40)
    for one, other in zip(smaller.encode(texts), again.encode(texts), strict=True):
        assert np.array_equal(one, other)
    twice, all_kept = keep_occurring(again, texts)
    assert all_kept == list(range(len(kept)))
    assert twice.to_json() == smaller.to_json()


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_same_texts_give_the_same_tokenizer(name: str) -> None:
    first, second = (keep_occurring(TOKENIZERS[name](), words(0, 25)) for _ in range(2))
    assert first[1] == second[1]
    assert first[0].to_json() == second[0].to_json()


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_stay_and_stand_around_a_text(kind: TokenizerKind) -> None:
    smaller, kept = keep_occurring(learned(kind), ["abc"])
    assert kept[:5] == [0, 1, 2, 3, 4]
    assert [smaller.core.id_to_token(number) for number in range(5)] == list(SPECIAL_TOKENS)
    assert pieces(smaller, "abc")[0] == "[CLS]"
    assert pieces(smaller, "abc")[-1] == "[SEP]"


def test_the_token_that_ends_a_text_in_clip_keeps_the_highest_id() -> None:
    smaller, kept = keep_occurring(clip_kind(), ["abc"])
    assert pieces(smaller, "abc") == ["<start>", "abc</w>", "<end>"]
    assert smaller.core.token_to_id("<end>") == len(kept) - 1


def test_byte_pairs_keep_what_a_kept_token_is_merged_from_and_no_more() -> None:
    smaller, _ = keep_occurring(clip_kind(), ["abcdef"])  # abcde + f</w>
    merges = [tuple(merge) for merge in json.loads(smaller.to_json())["model"]["merges"]]
    assert merges == [("a", "b"), ("c", "d"), ("cd", "e"), ("ab", "cde")]
    assert pieces(smaller, "abc") == ["<start>", "ab", "c</w>", "<end>"]


def test_a_word_piece_with_a_letter_that_has_no_piece_of_its_own_stays() -> None:
    vocabulary = {"[UNK]": 0, "a": 1, "##b": 2, "ab": 3, "##xb": 4, "ba": 5, "a##": 6}
    core = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    smaller, kept = keep_occurring(Tokenizer(core, 8), ["a"])
    assert kept == [0, 1, 2, 4, 5, 6]
    assert pieces(smaller, "axb ba ab") == ["a", "##xb", "ba", "a", "##b"]


def test_asked_for_ids_stay_and_those_unknown_are_passed_over() -> None:
    tokenizer = learned("wordpiece")
    unused = max(set(range(tokenizer.vocabulary_size)) - set(keep_occurring(tokenizer, ["abc"])[1]))
    assert unused in keep_occurring(tokenizer, ["abc"], also=[unused, 10_000])[1]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_of_a_limited_vocabulary_the_most_frequent_stay_and_nothing_becomes_unknown(name: str) -> None:
    tokenizer, texts = TOKENIZERS[name](), words(1, 300)
    _, all_kept = keep_occurring(tokenizer, texts)
    _, least = keep_occurring(tokenizer, [])
    at_most = (len(all_kept) + len(least)) // 2
    smaller, kept = keep_occurring(tokenizer, texts, at_most=at_most)
    assert at_most - 3 <= len(kept) <= at_most  # byte pairs come with what they are merged from
    assert set(least) <= set(kept) < set(all_kept)
    tokens, mask = tokenizer.encode(texts)
    counts = np.bincount(tokens[mask], minlength=max(all_kept) + 1)
    by_count = sorted(np.flatnonzero(counts).tolist(), key=lambda number: (-counts[number], number))
    chosen = list(itertools.takewhile(set(kept).__contains__, by_count))
    assert len(chosen) > 5
    rest = set(kept) - {*least, *chosen}
    assert not rest or name in ("bpe", "clip")  # of byte pairs, what the chosen are merged from
    unknown = {number for number in map(smaller.core.token_to_id, ("[UNK]", "<unk>")) if number is not None}
    for text in [*texts, *words(5, 100)]:
        assert not unknown & set(smaller.core.encode(text).ids), text
    assert keep_occurring(tokenizer, texts, at_most=len(all_kept))[1] == all_kept
    with pytest.raises(UserError, match=f"vocabulary_at_most: .* alone are {len(least)}"):
        keep_occurring(tokenizer, texts, at_most=len(least) - 1)


def test_tokens_beyond_the_context_do_not_occur() -> None:
    tokenizer = learned("wordpiece")
    short = Tokenizer(tokenizers.Tokenizer.from_str(tokenizer.to_json()), 4)
    text = " ".join(words(0, 25))
    assert len(keep_occurring(short, [text])[1]) < len(keep_occurring(tokenizer, [text])[1])


def test_added_tokens_behind_the_vocabulary_keep_their_names() -> None:
    tokenizer = learned("bpe")
    tokenizer.core.add_special_tokens([AddedToken("<object>", special=True)])
    smaller, kept = keep_occurring(tokenizer, ["abc"])
    assert kept[-1] == tokenizer.core.token_to_id("<object>")
    assert "<object>" in pieces(smaller, "abc <object>")


def test_a_tokenizer_of_whole_words_is_refused() -> None:
    core = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    with pytest.raises(UserError, match=r"WordPiece, BPE or Unigram tokenizer \(got WordLevel\); use vocabulary: all"):
        keep_occurring(Tokenizer(core, 8), ["a"])


def test_berts_vocabulary_on_a_few_captions() -> None:
    config = HuggingFaceTextEncoderConfig(name="tiny-bert", pretrained="none", tokenizer="bert", context_length=16)
    tokenizer = config.build_tokenizer()
    smaller, kept = keep_occurring(tokenizer, ["two dogs play in the snow"])
    assert len(kept) == 5 + 2 * 997 + 6  # special tokens, letters in both forms, words
    assert [kept[number] for number in smaller.encode(["two dogs in snow"])[0][0]] == [101, 2048, 6077, 1999, 4586, 102]
    assert "[UNK]" not in pieces(smaller, "zebras photographed in naïve 東京")
