"""Text to token ids, with the `tokenizers` library. No torch here."""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from pocketclip.errors import UserError
from pocketclip.unigram import learn_pieces

MAX_CAPTION_CHARACTERS = 20_000
"""Longer captions are cut before tokenising: no context length we know needs more, and the cost is linear."""
TokenizerKind = Literal["wordpiece", "bpe", "unigram"]
"""How a tokenizer learned from captions splits words."""
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Ids 0 to 4 of every learned tokenizer. A text begins with [CLS] and ends with [SEP], so that every pooling works."""
BYTES = 256
WORDS = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


class Tokenizer:
    """A `tokenizer.json`, whose own padding and truncation are replaced, with a context length.

    The context length is the longest output in tokens, special tokens included; longer texts are cut.
    """

    def __init__(self, core: tokenizers.Tokenizer, context_length: int) -> None:
        if context_length < 1:
            raise UserError(f"context_length must be at least 1 (got {context_length}).")
        self.core = core
        self.context_length = context_length
        self.core.enable_truncation(context_length)
        self.core.no_padding()

    @classmethod
    def from_file(cls, path: Path, context_length: int) -> "Tokenizer":
        """Read a `tokenizer.json`."""
        if not path.is_file():
            raise UserError(f"{path}: no such tokenizer file.")
        try:
            core = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise UserError(f"{path}: not a tokenizer ({error}).") from error
        return cls(core, context_length)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, added tokens included."""
        return int(self.core.get_vocab_size(with_added_tokens=True))

    def to_json(self) -> str:
        """The content of `tokenizer.json`; the context length is kept in the bundle's config."""
        return str(self.core.to_str(pretty=False))

    def encode(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """(B, L) ids, padded with 0, and (B, L) mask, True where a token stands; the longest text has L tokens."""
        cut = [text[:MAX_CAPTION_CHARACTERS] for text in texts]
        ids = [encoding.ids for encoding in self.core.encode_batch_fast(cut)]
        lengths = np.array([len(row) for row in ids])
        mask = np.arange(max(lengths, default=0)) < lengths[:, None]
        tokens = np.zeros(mask.shape, dtype=np.int64)
        tokens[mask] = np.concatenate([np.asarray(row, dtype=np.int64) for row in ids]) if ids else 0
        return tokens, mask

    def words_of_tokens(self, texts: Sequence[str]) -> list[list[str]]:
        """The word that each token of each text is of, in the text's own letters; empty of a special token."""
        cut = [text[:MAX_CAPTION_CHARACTERS] for text in texts]
        words = []
        for text, encoding in zip(cut, self.core.encode_batch(cut), strict=True):
            spans = [match.span() for match in WORDS.finditer(text)]
            places = zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
            words.append(["" if special else _word_at(text, spans, *place) for place, special in places])
        return words


def _word_at(text: str, spans: Sequence[tuple[int, int]], begin: int, end: int) -> str:
    """The word that a token's last letter is in, or that a token of blanks stands before; else the token's letters."""
    piece = text[begin:end]
    place = end - 1 if piece.strip() else end
    number = bisect_right(spans, place, key=lambda span: span[1])  # the first word that ends behind it
    if number < len(spans) and spans[number][0] <= place:
        return text[slice(*spans[number])]
    return piece.strip()


def train_tokenizer(
    texts: Sequence[str], *, vocabulary_size: int, context_length: int, kind: TokenizerKind = "wordpiece"
) -> Tokenizer:
    """A lower-case tokenizer learned from captions, with BERT's special tokens whatever its kind.

    For towers with random weights where no hub or package brings a vocabulary. The same texts always give the same
    ids, which a resumed run needs. There are `vocabulary_size` of them at most, special tokens included.

    `wordpiece` splits words as BERT does; `bpe` merges pairs of bytes as GPT-2 does, and knows every sign; `unigram`
    takes the most probable pieces as SentencePiece does.
    """
    least = len(SPECIAL_TOKENS) + (BYTES if kind == "bpe" else 1)
    if vocabulary_size < least:
        raise UserError(
            f"vocabulary_size: a tokenizer of kind {kind} has at least {least} ids (got {vocabulary_size})."
        )
    core = {"wordpiece": _learn_wordpiece, "bpe": _learn_bpe, "unigram": _learn_unigram}[kind](texts, vocabulary_size)
    core.add_special_tokens(list(SPECIAL_TOKENS))
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return Tokenizer(core, context_length)


def check_tokenizer_settings(origin: str, kind: TokenizerKind, vocabulary: str, at_most: int | None) -> None:
    """Refuse settings of a text tower's tokenizer that have no effect, with a ValueError for a config's validator."""
    if origin == "captions" and vocabulary != "all":
        raise ValueError(f"vocabulary: {vocabulary} has no effect on tokenizer: captions, which learns what occurs")
    if origin != "captions" and kind != "wordpiece":
        raise ValueError(f"tokenizer_kind: {kind} has no effect on tokenizer: {origin}; it is for captions")
    if at_most is not None and vocabulary != "occurring":
        raise ValueError(
            f"vocabulary_at_most: {at_most} has no effect on vocabulary: {vocabulary}; it is for occurring"
        )


def _learn_wordpiece(texts: Sequence[str], size: int) -> tokenizers.Tokenizer:
    form = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    learner = _assembled(models.WordPiece(unk_token="[UNK]"), *form)
    # Left to itself, the library numbers letters inside words in a new order each time, and settles ties by number
    letters = sorted({f"##{letter}" for word in _count_words(learner, texts) for letter in word[1:]})
    fixed = [*SPECIAL_TOKENS, *letters]
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=fixed, show_progress=False)
    learner.train_from_iterator(texts, trainer)
    return _assembled(models.WordPiece(learner.get_vocab(), unk_token="[UNK]"), *form)


def _learn_bpe(texts: Sequence[str], size: int) -> tokenizers.Tokenizer:
    normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    core = _assembled(models.BPE(), normalizer, pre_tokenizers.ByteLevel(add_prefix_space=True))
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return core


def _learn_unigram(texts: Sequence[str], size: int) -> tokenizers.Tokenizer:
    form = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]), pre_tokenizers.Metaspace()
    words = _count_words(_assembled(models.Unigram(), *form), texts)
    pieces = learn_pieces(words, size - len(SPECIAL_TOKENS))
    special = [(token, 0.0) for token in SPECIAL_TOKENS]
    return _assembled(models.Unigram([*special, *pieces.items()], unk_id=1), *form)


def _assembled(
    model: models.Model, normalizer: normalizers.Normalizer, splitter: pre_tokenizers.PreTokenizer
) -> tokenizers.Tokenizer:
    core = tokenizers.Tokenizer(model)
    core.normalizer, core.pre_tokenizer = normalizer, splitter
    return core


def _count_words(core: tokenizers.Tokenizer, texts: Sequence[str]) -> Counter[str]:
    """The words that a tokenizer splits further."""
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in core.pre_tokenizer.pre_tokenize_str(core.normalizer.normalize_str(text)))
    return words
