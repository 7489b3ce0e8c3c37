"""Captions of mirrored pictures: left and right exchanged."""

import re

_SIDES = re.compile(r"\b(left|right)(?=(?:most|wards?)?\b)", re.IGNORECASE)
_OTHER = {"left": "right", "right": "left"}


def sides_swapped(caption: str) -> str:
    """What is true of the mirrored picture: `left` for `right`, in the same letter case; twice gives the caption again.

    Words are taken as sides whatever they mean, so `he left` becomes `he right`; descriptions of people seldom have it.
    """
    return _SIDES.sub(lambda found: _in_case_of(found[0], _OTHER[found[0].lower()]), caption)


def _in_case_of(word: str, other: str) -> str:
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
