"""The feature cache filled ahead of training."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import QuietWatch, Told, tiny_recipe_settings
from pocketclip.errors import UserError
from pocketclip.features.cache import cache_folder
from pocketclip.recipe import Recipe
from pocketclip.run.features import fill_cache
from pocketclip.run.train import train
from pocketclip.stages.engine import compute_here
from pocketclip.stages.store import BlockFolder, OpenStage
from pocketclip.stages.watch import SILENT


def recipe(
    *, heads_first: bool = False, with_text_tower: bool = False, second_look: bool = False, **changes: Any
) -> Recipe:
    """A small recipe that caches features; 24 scenes to train on, 8 to validate, 6 to test."""
    cache = {"views": ["centre", "crop"]}
    settings: dict[str, Any] = tiny_recipe_settings() if heads_first else tiny_recipe_settings(cache=cache)
    if second_look:
        settings["model"]["image_encoder"]["second_look"] = {"image_size": 24}
    if with_text_tower:
        settings["train"]["learning_rate"]["text_encoder"] = 0.001
    if heads_first:
        settings["train"]["precision"] = "bfloat16"
        settings["heads_first"] = {**tiny_recipe_settings(cache=cache)["train"], "precision": "float32"}
    settings["data"]["test"] = {"kind": "scenes", "count": 6, "seed": 2, "image_size": 32}
    return Recipe.parse({**settings, **changes}, place="recipe")


def files() -> dict[str, bytes]:
    """Everything in the cache."""
    root = cache_folder()
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def as_a_worker(open_stage: OpenStage, folder: BlockFolder, numbers: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
    """An engine that opens the stage anew, as another process does, and works backwards."""
    stage = open_stage()
    assert stage.made_from == folder.stage.made_from
    opened = BlockFolder(folder.path, stage)
    for number in reversed(numbers):
        yield number, opened.compute(number)


@pytest.fixture
def two_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A function that switches to an empty cache."""
    return lambda name: monkeypatch.setenv("POCKETCLIP_CACHE", str(tmp_path / name))


@pytest.mark.slow
@pytest.mark.parametrize("second_look", [False, True])
@pytest.mark.parametrize("stage", ["heads", "heads_first", "with_text_tower"])
def test_training_finds_everything_it_needs(stage: str, second_look: bool, two_caches: Any, tmp_path: Path) -> None:
    heads_first = stage == "heads_first"
    loaded = recipe(heads_first=heads_first, with_text_tower=stage == "with_text_tower", second_look=second_look)
    two_caches("trained")
    train(loaded, tmp_path / "alone", name="alone", watch=QuietWatch())
    wanted = files()
    two_caches("filled")
    counts = fill_cache(loaded, as_a_worker, SILENT)
    assert files() == wanted
    assert counts == {"train": 24, "val": 8} | ({} if heads_first else {"test": 6})
    assert list(cache_folder().rglob("blocks")) == []


def test_blocks_of_a_stopped_call_are_used(two_caches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketclip.features.towers.IMAGES_PER_BLOCK", 5)
    two_caches("whole")
    fill_cache(recipe(), compute_here, SILENT)
    wanted = files()
    two_caches("cut")

    def stop(name: str, done: int, total: int, broken: Sequence[str]) -> None:
        if (name, done) == ("encoding images", 15):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill_cache(recipe(), compute_here, Told(stop))
    computed: list[int] = []

    def engine(open_stage: OpenStage, folder: BlockFolder, numbers: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
        computed.append(len(numbers))
        return compute_here(open_stage, folder, numbers)

    fill_cache(recipe(), engine, SILENT)
    assert files() == wanted
    assert computed == [2, 1, 2, 1, 2, 1]  # images and captions of train (25 % of it left), val and test


def test_an_entry_that_training_began_is_completed(
    two_caches: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketclip.features.towers.IMAGES_PER_BLOCK", 5)
    two_caches("whole")
    fill_cache(recipe(), compute_here, SILENT)
    wanted = files()
    two_caches("begun")

    class Stopping(QuietWatch):
        def work(self, name: str, done: int, total: int, broken: Sequence[str] = ()) -> None:
            if done == 10:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe(), tmp_path / "run", name="run", watch=Stopping())
    fill_cache(recipe(), as_a_worker, SILENT)
    assert files() == wanted


def test_a_second_call_computes_nothing() -> None:
    fill_cache(recipe(), compute_here, SILENT)
    before = {path: path.stat().st_mtime_ns for path in cache_folder().rglob("*")}

    def never(open_stage: OpenStage, folder: BlockFolder, numbers: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
        raise AssertionError("nothing is missing")

    fill_cache(recipe(), never, SILENT)
    assert {path: path.stat().st_mtime_ns for path in cache_folder().rglob("*")} == before


def test_a_recipe_that_caches_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"train\.cache: this recipe trains its towers"):
        fill_cache(Recipe.parse(tiny_recipe_settings(), place="recipe"), compute_here, SILENT)


def test_too_many_broken_pictures_stop_it(make_folder: Any) -> None:
    folder = make_folder(24)
    (folder / "004.jpg").write_bytes(b"no picture")
    settings = tiny_recipe_settings(cache={})
    settings["data"] = {"train": f"folder:{folder}", "val": {"kind": "scenes", "count": 8, "image_size": 32}}
    assert fill_cache(Recipe.parse(settings, place="recipe"), as_a_worker, SILENT)["train"] == 23
    settings["data"]["max_broken_share"] = 0
    with pytest.raises(UserError, match="1 of 24 items are broken"):
        fill_cache(Recipe.parse(settings, place="recipe"), as_a_worker, SILENT)
