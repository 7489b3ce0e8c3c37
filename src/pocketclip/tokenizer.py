"""Text to token ids, with the `tokenizers` library. No torch here."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from pocketclip.errors import UserError

MAX_CAPTION_CHARACTERS = 20_000
"""Longer captions are cut before tokenising: no context length we know needs more, and the cost is linear."""


class Tokenizer:
    """A `tokenizer.json` with a context length.

    Args:
        core: the tokenizer itself; its own padding and truncation are replaced.
        context_length: longest output in tokens, special tokens included; longer texts are cut.
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
        """Read a `tokenizer.json`.

        Raises:
            UserError: the file is missing or is not a tokenizer.
        """
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
        """Token ids and mask, padded with 0 to the longest text.

        Returns:
            (B, L) ids and (B, L) mask, True where a token stands; L is at most `context_length`.
        """
        cut = [text[:MAX_CAPTION_CHARACTERS] for text in texts]
        ids = [encoding.ids for encoding in self.core.encode_batch_fast(cut)]
        lengths = np.array([len(row) for row in ids])
        mask = np.arange(max(lengths, default=0)) < lengths[:, None]
        tokens = np.zeros(mask.shape, dtype=np.int64)
        tokens[mask] = np.concatenate([np.asarray(row, dtype=np.int64) for row in ids]) if ids else 0
        return tokens, mask


def train_tokenizer(texts: Sequence[str], *, vocabulary_size: int, context_length: int) -> Tokenizer:
    """A lower-case WordPiece tokenizer in BERT's form, learned from captions.

    For towers with random weights where no hub or package brings a vocabulary. The same texts always give the same
    ids, which a resumed run needs.
    """
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    learner = _bert_form(models.WordPiece(unk_token="[UNK]"))
    # Left to itself, the library numbers letters inside words in a new order each time, and settles ties by number
    fixed = [*special, *_letters_inside_words(learner, texts)]
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary_size, special_tokens=fixed, show_progress=False)
    learner.train_from_iterator(texts, trainer)
    core = _bert_form(models.WordPiece(learner.get_vocab(), unk_token="[UNK]"))
    core.add_special_tokens(special)
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return Tokenizer(core, context_length)


def _bert_form(model: models.WordPiece) -> tokenizers.Tokenizer:
    core = tokenizers.Tokenizer(model)
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return core


def _letters_inside_words(core: tokenizers.Tokenizer, texts: Sequence[str]) -> list[str]:
    """Every letter that follows another in a word, as WordPiece writes it."""
    words: set[str] = set()
    for text in texts:
        words.update(word for word, _ in core.pre_tokenizer.pre_tokenize_str(core.normalizer.normalize_str(text)))
    return sorted({f"##{letter}" for word in words for letter in word[1:]})
