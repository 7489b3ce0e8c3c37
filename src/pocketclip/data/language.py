"""Whether a caption may be English: by its letters and its most frequent words, without a model.

An alt text is often a name and a noun, which are of no language that a list of words could tell. So a caption counts as
English unless it speaks against that: over a tenth of its letters are of another script or carry accents, or it has
more of the frequent words of other languages than of English. `Hotel Berlin` passes, as does a Finnish word without
dots. DataComp asks fastText instead, which tells more; a column with its answers can be used in place of this.
"""

import re
from typing import Any

import numpy as np

from pocketclip.errors import require

FORMAT = 1  # raise when a caption would be judged otherwise
MOST_OTHER_LETTERS = 0.1
"""Share of letters beyond a to z above which a caption is not English."""
_ENGLISH = (
    "the of and in to for with on is are at by from an his her their its it this that was who while as into near over "
    "there some has have be or not you your my up out off under through behind front next down two man woman"
)
_OTHER = (
    "und mit der das ein eine einer einem einen dem auf von zum zur ist auch nicht oder bei fuer nach "  # German
    "et une dans avec aux sont qui cette ces ses des les "  # French
    "una para por que las sus como desde hasta "  # Spanish
    "di della delle dei nel nella sono gli che "  # Italian
    "uma em nao pela pelo ao "  # Portuguese
    "het een voor zijn bij naar ook niet "  # Dutch
    "jest dla nie przez oraz sie "  # Polish
    "och ett av som og til fra med "  # Swedish, Danish, Norwegian
    "ve bir icin ile yang dengan dari untuk pada adalah "  # Turkish, Indonesian
    "cu pentru este az egy "  # Romanian, Hungarian
)
_AMBIGUOUS = (
    "de la le el los del du y en con com os das dos um na van met op per die den est sur pour aus da do lo au il un "
    "w z dan des"
)
"""Frequent in other languages, and in English names and words too: one of them says little, two of them something."""


def _any_of(words: str, without: str = "") -> str:
    listed = sorted(set(words.split()) - set(without.split()))
    return rf"\b(?:{'|'.join(listed)})\b"


_WORDS = {
    "english": _any_of(_ENGLISH),
    "other": _any_of(_OTHER, _AMBIGUOUS),
    "ambiguous": _any_of(_AMBIGUOUS),
}
_LETTERS = {
    "plain_letters": "[a-z]",
    "other_letters": "[\u00c0-\u024f\u0370-\u1fff\u2c00-\u2dff\u3040-\ud7ff\uf900-\ufdff]",
}
_COMPILED = {name: re.compile(pattern, re.ASCII) for name, pattern in (_WORDS | _LETTERS).items()}


def may_be_english(caption: str) -> bool:
    """Whether nothing in a caption speaks against English; see above."""
    text = caption.lower()
    counts = {name: len(pattern.findall(text)) for name, pattern in _COMPILED.items()}
    return bool(_verdict(**counts))


def column_may_be_english(captions: Any) -> Any:
    """(N,) the same of a pyarrow array of texts, as a NumPy mask; False where there is none."""
    compute = require("pyarrow.compute", extra="parquet")
    text = compute.utf8_lower(captions.fill_null(""))
    words = {name: compute.count_substring_regex(text, pattern).to_numpy() for name, pattern in _WORDS.items()}
    letters = {
        "plain_letters": compute.match_substring_regex(text, "[a-z]").to_numpy(zero_copy_only=False).astype(np.int32),
        "other_letters": np.zeros(len(text), np.int32),
    }
    others = np.flatnonzero(~compute.string_is_ascii(text).to_numpy(zero_copy_only=False))  # few, and slow to count
    for name, pattern in _LETTERS.items():
        letters[name][others] = compute.count_substring_regex(text.take(others), pattern).to_numpy()
    return _verdict(**words, **letters)


def _verdict(*, english: Any, other: Any, ambiguous: Any, plain_letters: Any, other_letters: Any) -> Any:
    """Of counts, or of arrays of them."""
    against = 2 * other + ambiguous
    of_a_language = (against < 2) | (against <= 2 * english)
    in_letters = other_letters <= MOST_OTHER_LETTERS * (plain_letters + other_letters)
    return of_a_language & in_letters & (plain_letters > 0)
