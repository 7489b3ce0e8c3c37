"""A recipe fits data that are smaller than its batches."""

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import QuietWatch, tiny_recipe_settings
from pocketclip.errors import UserError
from pocketclip.recipe import Recipe, load_recipe
from pocketclip.run.fit import fit_to_data
from pocketclip.run.train import train


def recipe(folder: Path, batch_size: int = 32, *, fit: bool = True) -> Recipe:
    settings = tiny_recipe_settings(batch_size=batch_size)
    settings |= {"data": {"train": f"folder:{folder}"}, "fit_small_data": fit}
    return Recipe.parse(settings, place="test")


@pytest.mark.parametrize(
    ("count", "batch_size", "held"),
    [(8, 6, 2), (9, 7, 2), (12, 9, 3), (20, 16, 4), (35, 31, 4), (36, 32, 4), (60, 32, 6)],
)
def test_batches_and_the_share_held_out_fit(
    count: int, batch_size: int, held: int, make_folder: Callable[..., Path]
) -> None:
    fitted, note = fit_to_data(recipe(make_folder(count)))
    assert fitted.train.batch_size == batch_size
    assert round(fitted.data.hold_out * count) == held
    assert not fitted.fit_small_data
    assert (note is None) == (count == 60)


def test_fewer_than_eight_are_refused_with_what_to_do(make_folder: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"7 of 7 pictures can be read .* Bring at least 8 of them"):
        fit_to_data(recipe(make_folder(7)))


def test_enough_data_leave_the_recipe_and_its_hash_alone(make_folder: Callable[..., Path]) -> None:
    folder = make_folder(40)
    fitted, note = fit_to_data(recipe(folder, batch_size=4))
    assert note is None
    assert fitted.fingerprint() == recipe(folder, batch_size=4, fit=False).fingerprint()


def test_no_other_recipe_is_fitted(make_folder: Callable[..., Path]) -> None:
    plain = recipe(make_folder(8), fit=False)
    assert fit_to_data(plain) == (plain, None)
    assert "fit_small_data" not in plain.model_dump()


def test_a_run_on_eight_pictures_records_what_was_used(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    folder = make_folder(8)
    outcome = train(recipe(folder), tmp_path / "run", name="few", watch=QuietWatch())
    used = load_recipe(str(tmp_path / "run"))
    assert (used.train.batch_size, used.data.hold_out) == (6, 0.25)
    assert outcome.record.recipe_hash == used.fingerprint()
    assert "fitted to 8 pictures: 6 to learn from, in batches of 6, and 2 to be measured on" in outcome.record.notes[0]
    train(recipe(folder), tmp_path / "run", name="few", watch=QuietWatch(), resume=True)


def with_subset(plain: Recipe, count: int) -> Recipe:
    settings = plain.model_dump(mode="json")
    settings["data"]["subset"] = {"count": count}
    return Recipe.parse(settings, place="test")


@pytest.mark.parametrize("count", [10, 20])
def test_batches_fit_a_subset_and_what_is_held_out_the_whole(count: int, make_folder: Callable[..., Path]) -> None:
    whole = recipe(make_folder(40))
    fitted, note = fit_to_data(with_subset(whole, count))
    assert fitted.train.batch_size == count
    assert fitted.data.hold_out == fit_to_data(whole)[0].data.hold_out
    assert note is not None
    assert f"{count} to learn from" in note


def test_too_small_a_subset_is_refused_as_too_little_data(make_folder: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"\(subset of 7\): 7 of 7 pictures can be read .* Bring at least 8 of them"):
        fit_to_data(with_subset(recipe(make_folder(40)), 7))
