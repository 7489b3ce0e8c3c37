"""Captions by their type: what counts as one, wherever it was written."""

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pocketclip.errors import BrokenItemError

EMPTY_WORDS = frozenset(["nan", "null", "none", "n/a", "na", "<na>", "#n/a", "nil"])
"""What programs write into a cell that has no caption; compared in small letters."""
TEXT_KEYS = ("raw", "caption", "text", "sentence")
"""Where an object holds its one caption, as in Karpathy's and COCO's files."""

_LITERAL = re.compile(r"""'(?:[^'\\\n]|\\.)*+'|"(?:[^"\\\n]|\\.)*+\"""")
_PRINTED = re.compile(rf"\[\s*(?:{_LITERAL.pattern})(?:\s+(?:{_LITERAL.pattern}))+\s*\]")
"""A list as numpy and pandas print it, without commas, which Python would read as one text."""


def clean_captions(captions: Sequence[str]) -> tuple[str, ...]:
    """Captions without surrounding blanks; empty ones are dropped, and halves of a cut emoji become `?`."""
    stripped = (" ".join(caption.encode(errors="replace").decode().split()) for caption in captions)
    return tuple(caption for caption in stripped if caption)


def parse_captions(value: Any, *, place: str) -> list[str]:
    """The captions that a cell, a key or a column's value holds, as they stand; none for None and NaN.

    A caption is a text, or an object with its text under one of `TEXT_KEYS`; there may be a list of them, which may
    itself be written as a text: in JSON, or as Python and pandas print one. Anything else is a BrokenItemError that
    names `place`, the type and the value.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return []
    if hasattr(value, "tolist"):  # of numpy
        return parse_captions(value.tolist(), place=place)
    if isinstance(value, str):
        listed = _written_list(value)
        return [value] if listed is None else _parse_list(listed, value, place)
    if isinstance(value, Mapping):
        return [_text_of(value, value, place)]
    if isinstance(value, (list, tuple)):
        return _parse_list(value, value, place)
    raise _no_caption(value, value, place)


def _parse_list(values: Sequence[Any], whole: Any, place: str) -> list[str]:
    there = (value for value in values if value is not None)
    return [_text_of(value, whole, place) for value in there]


def _text_of(value: Any, whole: Any, place: str) -> str:
    if isinstance(value, Mapping):
        texts = [value[key] for key in TEXT_KEYS if isinstance(value.get(key), str)]
        value = texts[0] if texts else value
    if not isinstance(value, str):
        raise _no_caption(value, whole, place)
    return value


def _no_caption(value: Any, whole: Any, place: str) -> BrokenItemError:
    kind = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    what = kind.get(type(value), type(value).__name__)
    where = "" if value is whole else f" inside {str(whole)[:60]!r}"
    return BrokenItemError(
        f"{place}: a caption is a text or a list of texts (got {what}: {str(value)[:60]!r}{where}); "
        "name the right column with caption=COLUMN, or mend the data."
    )


def _written_list(text: str) -> list[Any] | None:
    """The list that a text writes out; None where it is a text like any other, as `[laughs] a man` is."""
    stripped = text.strip()
    if not (stripped.startswith(("[", "{")) and stripped.endswith(("]", "}"))):
        return None
    if _PRINTED.fullmatch(stripped):
        return [ast.literal_eval(text) for text in _LITERAL.findall(stripped)]
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            value = read(stripped)
            if isinstance(value, dict):
                return [value]
            return value if isinstance(value, list) else None
    return None


def is_empty_word(caption: str) -> bool:
    """Whether a text stands for no caption at all: `NaN`, `null`, or nothing but blanks."""
    text = caption.strip().lower()
    return not text or text in EMPTY_WORDS
