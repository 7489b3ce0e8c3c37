"""Left and right of captions, where the picture is mirrored."""

import pytest

from pocketclip.data.sides import sides_swapped


@pytest.mark.parametrize(
    ("caption", "swapped"),
    [
        ("a bag in his left hand", "a bag in his right hand"),
        ("Left of the red car, right of the bus", "Right of the red car, left of the bus"),
        ("LEFT and right-handed", "RIGHT and left-handed"),
        ("the leftmost man looks rightwards", "the rightmost man looks leftwards"),
        ("bright leftovers, a copyright, a lefty", "bright leftovers, a copyright, a lefty"),
        ("no side", "no side"),
        ("", ""),
    ],
)
def test_sides_are_exchanged_as_words_in_their_case(caption: str, swapped: str) -> None:
    assert sides_swapped(caption) == swapped
    assert sides_swapped(swapped) == caption
