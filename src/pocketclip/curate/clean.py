"""Captions from the web made readable: entities, addresses, marks and control characters out, odd lengths dropped."""

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Self

from pydantic import PositiveInt, model_validator

from pocketclip.config import Config
from pocketclip.data.captions import clean_captions
from pocketclip.data.keys import caption_id

FORMAT = 1  # raise when the same text would come out differently

_MARK = re.compile(r"</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>")  # HTML's own; CC12M writes <PERSON> for a name, which stays
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
# Soft hyphen, zero-width space, directions of writing, word joiners, byte order mark, and what stands for a lost or an
# embedded object. The joiners U+200C and U+200D stay: emoji, Persian and Hindi are spelt with them.
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufffc\ufffd]")


class CleanConfig(Config):
    """What a caption must be to stay. The text itself is always made clean; see `clean_text`."""

    min_words: PositiveInt = 2
    """Shorter captions are dropped: a single word of alt text is a file name or `image` more often than not."""
    max_words: PositiveInt = 128
    """Longer ones are dropped: they are pages, not captions."""
    max_captions: PositiveInt | None = None
    """Of an image; the first ones stay. None: all of them."""

    @model_validator(mode="after")
    def _lengths_fit_together(self) -> Self:
        if self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} is above max_words {self.max_words}")
        return self


REASONS = ("empty", "min_words", "max_words", "repeated", "max_captions")
"""Why a caption is dropped: nothing readable in it, too short, too long, the image has it already, one too many."""
COUNTS = ("read", "changed", *REASONS)
"""What is counted: captions read, those that stay with another text, and those dropped, by the first reason."""


def clean_text(text: str) -> str:
    """The text in Unicode's composed form without HTML, web addresses, control and invisible characters.

    Cleaning the result again changes nothing.
    """
    while (cleaned := _cleaned_once(text)) != text:  # `&amp;lt;` is a `<` twice removed
        text = cleaned
    return text


def _cleaned_once(text: str) -> str:
    text = unicodedata.normalize("NFC", html.unescape(text))
    text = _INVISIBLE.sub("", text)
    text = "".join(" " if unicodedata.category(letter) in ("Cc", "Co") else letter for letter in text)
    text = _ADDRESS.sub(" ", _MARK.sub(" ", text))
    return " ".join(clean_captions([text]))


def clean_image(captions: Sequence[str], rules: CleanConfig, counts: Counter[str] | None = None) -> tuple[str, ...]:
    """One image's captions that stay, cleaned; to `counts` is added what `COUNTS` names."""
    counts = Counter() if counts is None else counts
    kept: dict[int, str] = {}
    for caption in captions:
        text = clean_text(caption)
        words, identity = len(text.split()), caption_id(text)
        broken_rules = {
            "empty": words == 0,
            "min_words": words < rules.min_words,
            "max_words": words > rules.max_words,
            "repeated": identity in kept,
            "max_captions": rules.max_captions is not None and len(kept) >= rules.max_captions,
        }
        reason = next((name for name in REASONS if broken_rules[name]), None)
        counts["read"] += 1
        if reason is None:
            counts["changed"] += text != caption
            kept[identity] = text
        else:
            counts[reason] += 1
    return tuple(kept.values())
