"""Real trainings on drawn scenes: those that learn hear nothing, the others are told early and at the end."""

from pathlib import Path

import pytest

from conftest import QuietWatch, tiny_recipe_settings
from pocketclip.recipe import Recipe
from pocketclip.run.train import train


def notes_of(folder: Path, rate: float) -> tuple[list[str], list[str]]:
    """On the terminal, and in the record; those of the data are left out."""
    rates = {"heads": rate, "image_encoder": rate, "text_encoder": rate}
    settings = tiny_recipe_settings(num_steps=120, batch_size=32, learning_rate=rates)
    settings["data"] = {"train": "scenes:500,image_size=32", "val": "scenes:100,seed=1,image_size=32"}
    watch = QuietWatch()
    record = train(Recipe.parse(settings, place="test"), folder, name="x", watch=watch).record
    return tuple([note for note in notes if not note.startswith("data.")] for notes in (watch.notes, record.notes))  # type: ignore[return-value]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "cause"), [(5.0, "too high (5)"), pytest.param(1e-8, "too low (1e-08)", marks=pytest.mark.slow)]
)
def test_a_rate_far_off_is_told_once_and_recorded(tmp_path: Path, rate: float, cause: str) -> None:
    told, recorded = notes_of(tmp_path / "run", rate)
    standing = [note for note in told if "3.466 would be that of a model that knows nothing" in note]
    assert len(standing) == 1
    assert f"a learning rate that is {cause}" in standing[0]
    assert any("120 steps, and 3.466 would" in note for note in recorded)
    assert any(note.startswith("val: text to image recall@1 is") for note in recorded)


@pytest.mark.slow
def test_a_training_that_learns_hears_nothing(tmp_path: Path) -> None:
    assert notes_of(tmp_path / "run", 0.001) == ([], [])
