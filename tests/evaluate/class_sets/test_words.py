"""Names of folders as words."""

import pytest

from pocketclip.evaluate.class_sets.words import to_words


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["AnnualCrop", "Forest", "SeaLake"], ["annual crop", "forest", "sea lake"]),
        (["apple_pie", "golden-retriever"], ["apple pie", "golden retriever"]),
        (["t-shirt", "x-ray", "737-200", "iPod"], ["t-shirt", "x-ray", "737-200", "iPod"]),
        (["hard-leaved_pocket_orchid"], ["hard-leaved pocket orchid"]),
        (["black-and-tan", "great white-shark"], ["black and tan", "great white-shark"]),
        (["Abyssinian", "Bengal"], ["Abyssinian", "Bengal"]),
        (["USAFlag", "RedCar"], ["USA flag", "red car"]),
        (["n01440764", "n02084071"], ["tench", "dog"]),
        (["n99999999"], ["n99999999"]),
        (["001.ak47", "002.American_flag"], ["ak47", "American flag"]),
        (["0", "7"], ["0", "7"]),
        (["_", "__init"], ["_", "init"]),
    ],
)
def test_folder_names_become_words(names: list[str], words: list[str]) -> None:
    assert to_words(names) == tuple(words)
