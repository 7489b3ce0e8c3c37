import pytest

from pocketclip.data.parts_of_speech import ADJECTIVE, NOUN, OTHER, VERB, kind_of_word

WORDS = {
    NOUN: "dog dogs building clothing railing bed belly table olive glass grass Eiffel pizza's sled thing Hund 犬",
    ADJECTIVE: "black RED 3 40th wooden snowy striped colourless famous reddish playful flexible two front last",
    VERB: "runs jumping walked wearing is-smiling sits swam throws covered",
    OTHER: "a the with of is are quickly very someone whose not n't . , ! ’ - outside several",
}


@pytest.mark.parametrize(("word", "kind"), [(word, kind) for kind, words in WORDS.items() for word in words.split()])
def test_words_of_captions(word: str, kind: int) -> None:
    assert kind_of_word(word) == kind


def test_no_word_stands_in_two_lists() -> None:
    from pocketclip.data import parts_of_speech

    lists = [getattr(parts_of_speech, name).split() for name in ("_NAMES", "_VERBS", "_ADJECTIVES", "_OTHERS")]
    words = [word for one in lists for word in one]
    assert sorted({word for word in words if words.count(word) > 1}) == []


@pytest.mark.parametrize(
    ("caption", "in_order"),
    [
        ("A brown dog is running through the snow", "dog snow brown running A is through the"),
        ("Two children in red coats climb a tree", "children coats tree Two red climb in a"),
        ("The man's hat fell into the muddy water", "man's hat water muddy fell The into the"),
    ],
)
def test_what_a_caption_keeps_first(caption: str, in_order: str) -> None:
    assert sorted(caption.split(), key=kind_of_word) == in_order.split()
