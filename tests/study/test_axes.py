"""Axes become a grid of cells; what cannot fit is left out with the reason, and what nobody reads is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import tiny_recipe_settings
from pocketclip.config import digest
from pocketclip.errors import UserError
from pocketclip.run.data import open_data
from pocketclip.study import samples
from pocketclip.study.axes import grid
from pocketclip.study.grid import Study, StudyConfig, load_study
from pocketclip.study.samples import samples_of_rows, with_samples

AXES: dict[str, Any] = {
    "image size": {"small/16": {"model.image_encoder.image_size": 16}, "32": {}},
    "rate": {"key": "train.learning_rate.heads", "values": [0.001, 0.01]},
}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes a study of axes over the tiny recipe."""
    (tmp_path / "tiny.yaml").write_text(json.dumps(tiny_recipe_settings()))

    def written(axes: dict[str, Any] | None = None, **keys: Any) -> Path:
        path = tmp_path / "grid.study.yaml"
        path.write_text(json.dumps({"base": "tiny.yaml", "axes": AXES if axes is None else axes, **keys}))
        return path

    return written


def load(path: Path, *changes: str) -> Study:
    return load_study(str(path), changes)


def test_every_combination_is_a_cell(write: Write) -> None:
    study = load(write())
    assert [row.name for row in study.rows] == [
        "small/16, 0.001", "small/16, 0.01", "32, 0.001", "32, 0.01"
    ]  # fmt: skip
    assert [row.slug for row in study.rows] == ["small-16_0-001", "small-16_0-01", "32_0-001", "32_0-01"]
    last = study.rows[-1]
    assert last.levels == {"image size": "32", "rate": "0.01"}
    assert last.recipe.train.learning_rate.heads == 0.01
    assert study.rows[0].recipe.model.image_encoder.image_size == 16
    assert study.config.levels() == {"image size": ["small/16", "32"], "rate": ["0.001", "0.01"]}
    assert not study.left


def test_folders_stay_when_levels_are_added_or_moved(write: Write) -> None:
    before = {row.slug for row in load(write()).rows}
    more = {**AXES, "rate": {"key": "train.learning_rate.heads", "values": [0.1, 0.01, 0.001]}}
    assert before < {row.slug for row in load(write(more)).rows}


def test_wider_settings_go_before_those_below_them(write: Write) -> None:
    size = {name: {"train.augment.crop_scale": [low, 1.0]} for name, low in (("half", 0.5), ("most", 0.8))}
    flips = {"on": {"train.augment": {"flip": True}}, "off": {"train.augment": {}}}
    for axes in ({"size": size, "flips": flips}, {"flips": flips, "size": size}):
        rows = load(write(axes)).rows
        assert {(row.recipe.train.augment.flip, row.recipe.train.augment.crop_scale) for row in rows} == {
            (flip, (low, 1.0)) for flip in (True, False) for low in (0.5, 0.8)
        }


def test_truth_values_and_numbers_may_be_levels(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(json.dumps(tiny_recipe_settings()))
    path = tmp_path / "a.study.yaml"
    axes = "axes:\n  flip: {off: , on: {train.augment.flip: true}}\n  steps: {2: {train.num_steps: 2}, 4: {}}\n"
    path.write_text(f"base: tiny.yaml\n{axes}")
    assert load(path).config.levels() == {"flip": ["off", "on"], "steps": ["2", "4"]}


def test_several_budgets_are_one_more_axis() -> None:
    values = {"base": "tiny", "axes": AXES, "budget": [{"minutes": 5}, {"minutes": 20}]}
    config = StudyConfig.parse(values, place="x")
    assert config.levels()["budget"] == ["5 minutes", "20 minutes"]
    cells = list(grid(config.axes, config.budget))
    assert len(cells) == 8
    assert [cell.set["train.budget"] for cell in cells[:2]] == [{"minutes": 5}, {"minutes": 20}]
    one = StudyConfig.parse({**values, "budget": {"macs": 1e15}}, place="x")
    assert "budget" not in one.levels()
    assert all(cell.set["train.budget"] == {"macs": 1e15} for cell in one.cells())


def test_long_names_have_short_folders() -> None:
    axes = {f"axis {number}": {f"{'long' * 8} {number} {level}": {f"a{number}": level} for level in range(2)}
            for number in range(4)}  # fmt: skip
    cells = list(grid(axes, ()))
    assert all(len(cell.slug) <= 80 for cell in cells)
    assert len({cell.slug for cell in cells}) == 16


def test_a_cell_whose_recipe_is_refused_is_left_out_with_the_reason(write: Write) -> None:
    axes = {
        "cache": {"none": {}, "heads": {
            "train.cache": {}, "train.learning_rate": {"heads": 0.001}, "train.num_workers": None}},
        "batch norm": {"train": {}, "frozen": {"train.batch_norm": "frozen"}},
    }  # fmt: skip
    study = load(write(axes))
    assert [row.name for row in study.rows] == ["none, train", "none, frozen", "heads, train"]
    (left,) = study.left
    assert left.name == "heads, frozen"
    assert left.reason.startswith("train: batch_norm has no effect with cache")


def test_a_cell_that_is_another_one_is_left_out(write: Write) -> None:
    both = {"augment": {"none": {}, "flip": {"train.augment.flip": True}},
            "views": {"own": {}, "default": {"train.augment.crop_scale": None}}}  # fmt: skip
    study = load(write(both))
    assert [cell.reason for cell in study.left] == ["is the same run as 'none, own'", "is the same run as 'flip, own'"]


def test_a_batch_larger_than_the_data_does_not_fit(write: Write) -> None:
    study, seen = with_samples(load(write({"batch": {"key": "train.batch_size", "values": [4, 64]},
                                           "flip": {"off": {}, "on": {"train.augment.flip": True}}})))  # fmt: skip
    assert seen == {"4, off": 16, "4, on": 16}
    assert [cell.reason for cell in study.left] == ["train.batch_size: a batch of 64 is more than all 24 images"] * 2


@pytest.mark.parametrize(("small", "said"), [(False, "data.subset.count: 25 is more than the 24"), (True, "scenes:")])
def test_a_subset_that_the_data_cannot_give_does_not_fit(
    small: bool, said: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write({"pairs": {"key": "data.subset.count", "values": [16, 4 if small else 25]},
                  "flip": {"off": {}, "on": {"train.augment.flip": True}}})  # fmt: skip
    opened = []
    monkeypatch.setattr(samples, "open_data", lambda data, watch: opened.append(data) or open_data(data, watch))
    study, seen = with_samples(load(path, *(["fit_small_data=true"] if small else [])))
    assert list(seen) == ["16, off", "16, on"]
    assert [cell.reason.startswith(said) for cell in study.left] == [True] * 2
    assert len(opened) == (0 if small else 2)  # each once


def test_patches_that_a_tower_cannot_drop_are_told_before_any_data(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load(write({"tower": {"net": {}, "vit": {"model.image_encoder.name": "test_vit"}},
                        "patches": {"all": {}, "half": {"train.keep_patches": 0.5}}}))  # fmt: skip
    opened = []
    monkeypatch.setattr(samples, "open_data", lambda data, watch: opened.append(data) or open_data(data, watch))
    counter = samples.SampleCounter()
    reasons = {row.name: counter.keeps_all_patches(row.recipe) for row in study.rows}
    assert opened == []
    left = with_samples(study)[0].left
    assert [(cell.name, cell.reason) for cell in left] == [("net, half", reasons.pop("net, half"))]
    assert left[0].reason.startswith("train.keep_patches: test_efficientnet needs all places of its map")
    assert set(reasons.values()) == {None}


def test_cells_need_not_see_equal_samples_unless_it_is_asked_for(write: Write) -> None:
    axes = {"steps": {"key": "train.num_steps", "values": [2, 4]}}
    assert samples_of_rows(load(write(axes))) == {"2": 8, "4": 16}
    with pytest.raises(UserError, match="different numbers of samples"):
        samples_of_rows(load(write(axes, equal_steps=True)))


RATE = {"key": "train.learning_rate.heads", "values": [1, 2]}


@pytest.mark.parametrize(
    ("axes", "keys", "said"),
    [
        ({"a": {"x": {"train.batchsize": 4}, "y": {}}}, {}, "axis 'a': level 'x': train.batchsize: unknown key 'batchsize'. Did you mean 'batch_size'?"),
        ({"a": {"key": "train.batchsize", "values": [4, 8]}, "r": RATE}, {}, "axis 'a': level '4': train.batchsize: unknown key"),
        ({"a": {"x": {"train.schedule": {"kind": "cosin"}}, "y": {}}, "r": RATE}, {}, "axis 'a': level 'x': train.schedule: Unknown kind 'cosin'. Did you mean 'cosine'?"),
        ({"a": {"x": {}}}, {}, "axis 'a' has 1 level"),
        ({"a": {}}, {}, "axis 'a' has 0 level"),
        ({"a": {"key": "train.num_steps", "values": [4, 4]}}, {}, "holds the level '4' twice"),
        ({"a": {"x": {"train.num_steps": 4}, "y": {"train.num_steps": 4}}}, {}, "levels 'x' and 'y' are the same"),
        ({"a": {"A b": {}, "a-b": {"train.num_steps": 3}}}, {}, "would share folder a-b"),
        ({"a": {"…": {}, "x": {"train.num_steps": 3}}}, {}, "needs a letter or digit"),
        ({"a": RATE, "b": RATE}, {}, "axes 'a' and 'b' both set train.learning_rate.heads"),
        ({"a": {"key": "seed", "values": [1, 2]}}, {}, "'seed' is the study's"),
        ({"a": RATE}, {"rows": [{"name": "x"}]}, "rows or axes, not both"),
        ({"a": RATE}, {"base": None}, "base is required"),
        ({"a": RATE}, {"base": "nowhere"}, "Unknown recipe 'nowhere'"),
        ({"a": {"key": "train.num_steps", "values": [-1, 0]}}, {}, "none of 2 cells can be trained; the first, '-1': train.num_steps: "),
        ({"a": {"key": "train.batch_size", "values": [50, 60]}}, {}, "none of the cells can be trained; the first, '50': train.batch_size: a batch of 50"),
        ({"a": {"key": "data.val", "values": ["scenes:8", "scenes:9"]}}, {}, "are validated on different pictures"),
        ({"budget": RATE}, {"budget": {"minutes": 1}}, "both name an axis 'budget'"),
        ({"a": {"key": "data.train.count.x", "values": [1, 2]}}, {}, "cell '1': set: data.train.count.x: 'count' is the value 24, which has no keys below it"),
        ({str(axis): {str(level): {f"a{axis}": level} for level in range(10)} for axis in range(6)}, {}, "axes span 1,000,000 cells"),
    ],
)  # fmt: skip
def test_bad_axes_are_one_clear_line(axes: dict[str, Any], keys: dict[str, Any], said: str, write: Write) -> None:
    with pytest.raises(UserError) as caught:
        samples_of_rows(load(write(axes, **keys)))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_key_that_some_cells_read_is_no_slip(write: Write) -> None:
    """A setting of one kind of schedule leaves out the cells of another."""
    axes = {
        "schedule": {
            "cosine": {"train.schedule": {"kind": "cosine"}},
            "constant": {"train.schedule": {"kind": "constant"}},
        },
        "final": {"0": {}, "a tenth": {"train.schedule.final": 0.1}},
    }
    study = load(write(axes))
    assert [row.name for row in study.rows] == ["cosine, 0", "cosine, a tenth", "constant, 0"]
    assert "unknown key 'final'" in study.left[0].reason


def test_recipe_hashes_are_those_of_the_recipe_alone(write: Write) -> None:
    row = load(write()).rows[-1]
    assert digest(row.recipe.model_dump(mode="json")) == row.recipe.fingerprint()
    assert row.with_seed(5).seed == 5
