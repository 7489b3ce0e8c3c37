"""Captions of which anyone can say the language."""

import pyarrow as pa
import pytest

from pocketclip.data.language import column_may_be_english, may_be_english

ENGLISH = [
    "A dog runs in the snow", "red bike", "Los Angeles skyline at night", "Hotel del Coronado", "Café near the beach",
    "Le Creuset pan", "50% off shoes", "www.shop.com blue dress", "Samsung Galaxy S21 128GB", "Mac OS screenshot",
    "Two dogs “playing” – with a ball 🐶", "Vincent van Gogh", "die cut sticker", "Est. 1990", "JOHN AND MARY",
]  # fmt: skip
OTHER = [
    "Ein Hund rennt durch den Schnee", "Un chien court dans la neige", "Un perro corre por la nieve",
    "los perros en la playa", "собака в снегу", "一只狗", "犬が走る", "Um cachorro corre na neve",
    "Een hond in de sneeuw", "pies biegnie przez śnieg", "En hund løper i snøen og leker", "Bir köpek karda koşuyor",
    "Il cane corre nella neve", "Anjing berlari dengan bola", "σκύλος στο χιόνι", "كلب في الثلج", "คำบรรยาย",
    "강아지", "EIN HUND UND EINE KATZE",
]  # fmt: skip
NOTHING = ["", "123 456", "!!!", "🐶"]


@pytest.mark.parametrize("caption", ENGLISH)
def test_english_and_names_pass(caption: str) -> None:
    assert may_be_english(caption)


@pytest.mark.parametrize("caption", [*OTHER, *NOTHING])
def test_other_languages_and_no_words_do_not(caption: str) -> None:
    assert not may_be_english(caption)


def test_a_column_is_judged_as_its_captions_are() -> None:
    captions = [*ENGLISH, *OTHER, *NOTHING]
    found = column_may_be_english(pa.array([*captions, None]))
    assert found.tolist() == [*map(may_be_english, captions), False]
