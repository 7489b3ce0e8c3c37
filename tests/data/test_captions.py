"""What counts as a caption, by its type."""

from typing import Any

import numpy as np
import pytest

from pocketclip.data.captions import is_empty_word, parse_captions
from pocketclip.errors import BrokenItemError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a dog", ["a dog"]),
        (None, []),
        (float("nan"), []),
        (["a", None, "b"], ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("['a', \"b's\"]", ["a", "b's"]),
        ("['a' 'b']", ["a", "b"]),
        ("['a'\n \"b's\"]", ["a", "b's"]),
        (np.array(["a", "b"]), ["a", "b"]),
        ({"raw": "a", "tokens": ["a"]}, ["a"]),
        ([{"caption": "a"}, {"sentence": "b"}], ["a", "b"]),
        ('{"raw": "a"}', ["a"]),
        ("[laughs] a man", ["[laughs] a man"]),
        ("[a man]", ["[a man]"]),
        ([], []),
    ],
)
def test_captions_are_read_by_type(value: Any, expected: list[str]) -> None:
    assert parse_captions(value, place="x") == expected


@pytest.mark.parametrize(
    ("value", "kind"),
    [(1, "number"), (1.5, "number"), (True, "true or false"), ([["a"]], "a list"), ({"x": "a"}, "an object")],
)
def test_anything_else_is_named(value: Any, kind: str) -> None:
    with pytest.raises(BrokenItemError, match=rf"x\.csv: line 3: a caption is a text .*{kind}"):
        parse_captions(value, place="x.csv: line 3")


@pytest.mark.parametrize("word", ["NaN", "null", "None", "N/A", "", "  ", "<NA>"])
def test_empty_words(word: str) -> None:
    assert is_empty_word(word)
    assert not is_empty_word(f"{word} dog")
