"""A tokenizer cut down to the tokens that occur in some captions, or to the most frequent of them. No torch here.

Most of a small text tower is its table of word embeddings, and captions use a part of it. What is kept:

- tokens that occur, and every special token;
- every single letter in each of its forms (`a` and `##a`, `a` and `a</w>`, all 256 bytes), so that a text with other
  words is split further, and none becomes unknown that was known;
- for byte pairs, the tokens that a kept one is merged from.

A text whose tokens are all kept is split as before. WordPiece takes the longest token at each place, and the longest is
still there. Byte-pair encoding does the merge that was learned first, and the merges inside a token depend on nothing
around it once the token stands. A unigram model takes the most probable split, and dropping others leaves it the most
probable.
"""

import json
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import tokenizers

from pocketclip.errors import UserError
from pocketclip.tokenizer import Tokenizer

TEXTS_A_BATCH = 4096
TEXTS_CHECKED = 1000
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""How models with byte fallback write a byte that has no letter."""


def keep_occurring(
    tokenizer: Tokenizer, texts: Sequence[str], *, also: Iterable[int] = (), at_most: int | None = None
) -> tuple[Tokenizer, list[int]]:
    """Drop the tokens that no text needs, or all but the most frequent ones.

    Args:
        tokenizer: is left as it is.
        texts: whose tokens are kept.
        also: ids to keep whatever occurs; those that the tokenizer does not have are passed over.
        at_most: how many to keep: besides what is kept anyway, those that occur most often.

    Returns:
        The smaller tokenizer, and its tokens' ids in the old one, ascending: `kept[new] == old`.

    Raises:
        UserError: a tokenizer of another kind, or more must be kept than `at_most`.
    """
    values = json.loads(tokenizer.to_json())
    model, known = values["model"], tokenizer.core.get_vocab(with_added_tokens=True)
    if model["type"] not in ("WordPiece", "BPE", "Unigram"):
        raise UserError(
            f"vocabulary: occurring takes a WordPiece, BPE or Unigram tokenizer (got {model['type']}); "
            "use vocabulary: all."
        )
    wanted = {token["content"] for token in values["added_tokens"]} | _pieces_needed_anyway(model)
    old = {number: piece for piece, number in known.items()}
    wanted.update(old[number] for number in also if number in old)
    ranks = {(left, right): rank for rank, (left, right) in enumerate(model.get("merges", ()))}
    wanted.update(_parts(model, ranks, wanted))
    if at_most is not None and len(wanted) > at_most:
        raise UserError(
            f"vocabulary_at_most: single letters and special tokens alone are {len(wanted):,}, which stay so that no "
            f"text becomes unknown (got {at_most:,})."
        )
    for piece in _by_frequency(tokenizer, texts, old):
        more = {piece, *_parts(model, ranks, [piece])} - wanted
        if at_most is not None and len(wanted) + len(more) > at_most:
            break
        wanted |= more
    kept = sorted(known[piece] for piece in wanted if piece in known)
    new = {old[number]: place for place, number in enumerate(kept)}
    _renumber(values, new)
    core = tokenizers.Tokenizer.from_str(json.dumps(values))
    smaller = Tokenizer(core, tokenizer.context_length)
    _check(tokenizer, smaller, texts[:TEXTS_CHECKED], kept, new)
    return smaller, kept


def _by_frequency(tokenizer: Tokenizer, texts: Sequence[str], pieces: dict[int, str]) -> list[str]:
    """The tokens of some texts, the most frequent first; of equally frequent ones, the one with the lower id."""
    counts = np.zeros(max(pieces) + 1, np.int64)
    for first in range(0, len(texts), TEXTS_A_BATCH):
        tokens, mask = tokenizer.encode(texts[first : first + TEXTS_A_BATCH])  # cut at the context length, as read
        counts += np.bincount(tokens[mask], minlength=len(counts))
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)].tolist()
    return [pieces[number] for number in order if number in pieces]


def _pieces_needed_anyway(model: dict[str, Any]) -> set[str]:
    """The unknown token, every letter, and what holds a letter that has no piece of its own."""
    scores = dict(model["vocab"]) if model["type"] == "Unigram" else {}
    pieces = set(scores or model["vocab"])
    needed = {piece for piece in pieces if _letters(piece, model) == [piece]}
    needed.update(piece for piece in pieces if not pieces.issuperset(_letters(piece, model)))
    if model.get("byte_fallback"):
        needed.update(piece for piece in pieces if BYTE.fullmatch(piece))
    if model["type"] != "Unigram":
        return needed | ({model["unk_token"]} if model["unk_token"] else set())
    if model["unk_id"] is not None:
        needed.add(model["vocab"][model["unk_id"]][0])
    needed.add(min(scores, key=lambda piece: scores[piece]))  # the cost of an unknown letter is counted from the lowest
    return needed


def _letters(piece: str, model: dict[str, Any]) -> list[str]:
    """The pieces of one letter that a piece consists of, with the model's marks of continuation or of a word's end."""
    prefix, suffix = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""
    body = piece.removeprefix(prefix)
    inside, ended = body != piece, bool(suffix) and body.endswith(suffix)
    letters = list(body.removesuffix(suffix) if ended else body)
    if not letters:
        return [piece]  # nothing but a mark
    marked = [letter if place == 0 and not inside else prefix + letter for place, letter in enumerate(letters)]
    return [*marked[:-1], marked[-1] + suffix] if ended else marked


def _parts(model: dict[str, Any], ranks: dict[tuple[str, str], int], pieces: Iterable[str]) -> list[str]:
    """What the pieces are merged from, step by step, by byte-pair encoding; nothing where there are no merges."""
    found = []
    for piece in pieces:
        parts = _letters(piece, model)
        while len(parts) > 1:
            rank, place = min((ranks.get(pair, len(ranks)), place) for place, pair in enumerate(pairwise(parts)))
            if rank == len(ranks):
                break  # a piece that no merges lead to, such as a special token
            parts[place : place + 2] = [_merged(parts[place], parts[place + 1], model)]
            found.append(parts[place])
    return found


def _merged(left: str, right: str, model: dict[str, Any]) -> str:
    return left + right.removeprefix(model.get("continuing_subword_prefix") or "")


def _renumber(values: dict[str, Any], new: dict[str, int]) -> None:
    """Write the new ids, and nothing that is dropped, into the content of a `tokenizer.json`."""
    model = values["model"]
    if model["type"] == "Unigram":
        unknown = None if model["unk_id"] is None else model["vocab"][model["unk_id"]][0]
        model["vocab"] = [[piece, score] for piece, score in model["vocab"] if piece in new]
        model["unk_id"] = None if unknown is None else new[unknown]
    else:
        model["vocab"] = {piece: new[piece] for piece in model["vocab"] if piece in new}
    if model["type"] == "BPE":
        merges = model["merges"]
        model["merges"] = [
            [left, right] for left, right in merges if {left, right, _merged(left, right, model)} <= {*new}
        ]
    for token in values["added_tokens"]:
        token["id"] = new[token["content"]]
    _renumber_frame(values["post_processor"], new)


def _renumber_frame(processor: dict[str, Any] | None, new: dict[str, int]) -> None:
    """The special tokens that are put around a text."""
    if processor is None:
        return
    for inner in processor.get("processors", ()):
        _renumber_frame(inner, new)
    for side in ("cls", "sep"):
        if side in processor:
            processor[side][1] = new[processor[side][0]]
    if processor["type"] == "TemplateProcessing":
        for special in processor["special_tokens"].values():
            special["ids"] = [new[piece] for piece in special["tokens"]]


def _check(
    tokenizer: Tokenizer, smaller: Tokenizer, texts: Sequence[str], kept: Sequence[int], new: dict[str, int]
) -> None:
    """A tokenizer with rules we do not know of must not pass unnoticed."""
    (before, mask), (after, new_mask) = tokenizer.encode(texts), smaller.encode(texts)
    length = min(mask.shape[1], new_mask.shape[1])  # texts that fell into more pieces may be longer
    whole = (np.isin(before, kept) | ~mask).all(axis=1)
    before, after = before[whole, :length], after[whole, :length]
    mask, new_mask = mask[whole, :length], new_mask[whole, :length]
    same_ids = smaller.core.get_vocab(with_added_tokens=True) == new
    if not same_ids or not np.array_equal(mask, new_mask) or (np.asarray(kept)[after] != before)[mask].any():
        raise UserError("vocabulary: occurring does not keep how this tokenizer splits texts; use vocabulary: all.")
