"""Captions of several pictures are counted before a training."""

from collections.abc import Callable
from pathlib import Path

from conftest import QuietWatch, tiny_recipe_settings
from pocketclip.recipe import Recipe
from pocketclip.run.train import train


def shared(folder: Path, out: Path) -> list[str]:
    settings = {**tiny_recipe_settings(), "data": {"train": f"folder:{folder}"}}
    watch = QuietWatch()
    record = train(Recipe.parse(settings, place="test"), out, name="x", watch=watch).record
    found = [note for note in watch.notes if "those of several pictures" in note]
    assert all(note in record.notes for note in found)
    return found


def test_names_of_classes_are_told_with_their_ceiling(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    folder = make_folder(20)
    for number, path in enumerate(sorted(folder.glob("*.txt"))):
        path.write_text(f"class {number % 2}")
    (note,) = shared(folder, tmp_path / "run")
    assert note.startswith("data.train: 18 of 18 captions are those of several pictures (2 different ones)")
    assert "R@1 can reach 11.1 % at most" in note
    assert "--task linear_probe --data folder:PHOTOS,classes=folders" in note


def test_captions_of_their_own_say_nothing(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    assert shared(make_folder(20), tmp_path / "run") == []
