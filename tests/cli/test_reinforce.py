"""`pocketclip reinforce`, from a recipe to a folder that trains."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import teachers as tiny
from pocketclip.data import open_source

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_huggingface_teacher(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture
def recipe(teacher: Path, make_folder: Callable[..., Path], tmp_path: Path) -> Path:
    values = {
        "source": f"folder:{make_folder(6, 2)}",
        "teachers": [{"kind": "huggingface", "name": str(teacher)}],
        "augment": {"crop_scale": [0.3, 1.0]},
        "num_views": 2,
        "samples_per_shard": 4,
    }
    path = tmp_path / "reinforce.yaml"
    path.write_text(json.dumps(values))  # JSON is YAML
    return path


def test_a_recipe_becomes_a_folder_and_the_counts_are_printed(pocketclip: Run, recipe: Path, tmp_path: Path) -> None:
    ended = pocketclip("reinforce", recipe, "--out", tmp_path / "out", "--json")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert (told["num_samples"], told["num_captions"], told["num_shards"], told["num_broken"]) == (6, 12, 2, 0)
    assert told["teachers"] == ["clip"]
    assert f"data.train=reinforced:{tmp_path / 'out'}" in ended.err
    assert len(open_source(f"reinforced:{tmp_path / 'out'}")) == 6
    again = pocketclip("reinforce", recipe, "--out", tmp_path / "out")
    assert (again.code, again.out) == (1, "")
    assert "is reinforced already" in again.err
    assert pocketclip("reinforce", recipe, "--out", tmp_path / "out", "--resume", "--json").out == ended.out


def test_a_dry_run_prints_storage_and_time_and_writes_nothing(pocketclip: Run, recipe: Path, tmp_path: Path) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    ended = pocketclip("reinforce", recipe, "--set", "num_views=4", "--dry-run", "--json")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert told["feature_bytes_per_sample"] == (4 + 2) * 12 * 2
    assert told["seconds"] > 0
    assert {path.name for path in tmp_path.iterdir()} == before


def test_sizes_are_written_for_people() -> None:
    from pocketclip.cli.reinforce import _duration, _size

    assert _size(110_592) == "110.6 kB"
    assert [_size(number) for number in (999, 1.4e12, 3e15)] == ["999 B", "1.4 TB", "3000 TB"]
    assert [_duration(seconds) for seconds in (5, 600, 36_000)] == ["5 seconds", "10 minutes", "10.0 hours"]


def test_too_many_broken_pictures_stop_it(pocketclip: Run, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "001.jpg").write_bytes(b"no picture")
    ended = pocketclip("reinforce", recipe, "--out", tmp_path / "out", "--max-broken-share", 0)
    assert ended.code == 1
    assert "1 of 6 items are broken" in ended.err
    assert "--max-broken-share=SHARE. " in ended.err
    ended = pocketclip("reinforce", recipe, "--out", tmp_path / "out", "--resume", "--max-broken-share=0.5", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["num_broken"] == 1
    assert "left out: " in ended.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "out: is null; say where the shards go with --out DIR"),
        (("--set", "num_views=0"), "num_views: Input should be greater than 0"),
        (("--set", "source=folder:nowhere"), "No such file or folder: nowhere"),
        (("--set", "num_view=3"), "Did you mean 'num_views'?"),
    ],
)
def test_bad_input_ends_in_one_clear_line(
    pocketclip: Run, recipe: Path, arguments: tuple[str, ...], reason: str
) -> None:
    out = ("--out", recipe.parent / "out") if arguments else ()
    ended = pocketclip("reinforce", recipe, *arguments, *out)
    assert (ended.code, ended.out) == (1, "")
    assert reason in ended.err
    assert "Traceback" not in ended.err
    assert not (recipe.parent / "out").exists()


def test_each_command_names_the_others_recipes(pocketclip: Run, recipe: Path) -> None:
    ended = pocketclip("train", recipe)
    assert (ended.code, "is a recipe of `pocketclip reinforce`" in ended.err) == (1, True)
    ended = pocketclip("reinforce", "quickstart/openmoji")
    assert (ended.code, "is a recipe of `pocketclip train`" in ended.err) == (1, True)


def test_both_kinds_of_recipes_are_listed(pocketclip: Run) -> None:
    lines = pocketclip("list", "recipes").out.splitlines()
    (ours,) = [line for line in lines if line.startswith("mobileclip/reinforce_flickr8k ")]
    assert "Flickr8k reinforced" in ours


@pytest.mark.slow
def test_what_it_writes_trains(pocketclip: Run, recipe: Path, tmp_path: Path) -> None:
    from conftest import tiny_model_settings

    assert pocketclip("reinforce", recipe, "--out", tmp_path / "out").code == 0
    settings = {
        "data": {"train": f"reinforced:{tmp_path / 'out'}"},
        "model": tiny_model_settings(),
        "objective": {"kind": "reinforced"},
        "train": {
            "num_steps": 3,
            "batch_size": 3,
            "learning_rate": dict.fromkeys(("heads", "image_encoder", "text_encoder"), 1e-3),
            "num_workers": 0,
        },
    }
    (tmp_path / "train.yaml").write_text(json.dumps(settings))
    ended = pocketclip("train", tmp_path / "train.yaml", "--out", tmp_path / "run", "--json")
    assert ended.code == 0, ended.err
