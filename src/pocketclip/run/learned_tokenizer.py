"""A tokenizer learned from the training captions, found again by them: the cells of a study wait for it once."""

from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version

from pocketclip.config import digest
from pocketclip.errors import UserError
from pocketclip.files import cache_root, write_atomically
from pocketclip.stages.filling import FILLING
from pocketclip.tokenizer import Tokenizer, TokenizerKind, train_tokenizer

FORMAT = 1  # raise when the same captions would give another tokenizer


def learned_tokenizer(
    captions: Sequence[str], *, vocabulary_size: int, context_length: int, kind: TokenizerKind
) -> Tokenizer:
    """That of `train_tokenizer`, out of the cache where the same captions were learned from before."""
    made_from = [FORMAT, version("tokenizers"), kind, vocabulary_size, list(captions)]
    path = cache_root() / "tokenizers" / f"{digest(made_from)}.json"
    with suppress(UserError):  # it is not there, or damaged
        return Tokenizer.from_file(path, context_length)
    with FILLING.counted():
        tokenizer = train_tokenizer(captions, vocabulary_size=vocabulary_size, context_length=context_length, kind=kind)
        with suppress(OSError, UserError):  # a cache that cannot be written only saves no time
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, tokenizer.to_json())
    return tokenizer
