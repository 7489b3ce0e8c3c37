"""Captions are made readable, and dropped where they say nothing."""

from collections import Counter

import pytest

from pocketclip.curate.clean import REASONS, CleanConfig, clean_image, clean_text
from pocketclip.errors import UserError


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a dog", "a dog"),
        ("  a \t dog\n", "a dog"),
        ("cafe\u0301", "caf\u00e9"),
        ("salt &amp; pepper", "salt & pepper"),
        ("salt &amp;amp; pepper", "salt & pepper"),
        ("a <b>red</b> car<br/>", "a red car"),
        ('<a href="x">a red car</a>', "a red car"),
        ("&lt;i&gt;a red car&lt;/i&gt;", "a red car"),
        ("<PERSON> rides a horse", "<PERSON> rides a horse"),
        ("2 < 3 and 4 > 3", "2 < 3 and 4 > 3"),
        ("a cat https://example.org/x?y=1 asleep", "a cat asleep"),
        ("a cat WWW.example.org", "a cat"),
        ("a\x00b\x07c", "a b c"),
        ("zero\u200bwidth so\u00adft \ufeffmark \u202eleft", "zerowidth soft mark left"),
        ("family \U0001f468\u200d\U0001f469\u200d\U0001f467", "family \U0001f468\u200d\U0001f469\u200d\U0001f467"),
        ("\u4e00\u53ea\u72d7", "\u4e00\u53ea\u72d7"),
        ("half an emoji \ud83d", "half an emoji ?"),
        ("", ""),
    ],
)
def test_text_is_made_readable(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned
    assert clean_text(cleaned) == cleaned


def test_each_caption_is_dropped_for_its_first_reason() -> None:
    counts = Counter[str]()
    rules = CleanConfig(min_words=2, max_words=4, max_captions=2)
    captions = ["https://x.org", "dog", "a b c d e", "A dog .", "a dog", "a  cat", "a bird"]
    assert clean_image(captions, rules, counts) == ("A dog .", "a cat")
    assert counts["read"] == 7
    assert counts["changed"] == 1
    assert [counts[reason] for reason in REASONS] == [1, 1, 1, 1, 1]


def test_everything_stays_by_default_but_single_words_and_pages() -> None:
    captions = ("a dog", "word " * 128, "word", "word " * 129)
    assert clean_image(captions, CleanConfig()) == ("a dog", ("word " * 128).strip())


def test_limits_that_leave_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="min_words 5 is above max_words 4"):
        CleanConfig.parse({"min_words": 5, "max_words": 4}, place="x")
