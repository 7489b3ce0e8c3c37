"""Study files: rows become whole recipes, and what cannot be compared is refused in one clear line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import tiny_recipe_settings
from pocketclip.errors import UserError
from pocketclip.evaluate.tasks.retrieval import RECALLS
from pocketclip.recipe import load_recipe, read_settings
from pocketclip.shipped_recipes import find_study, list_recipes, list_studies
from pocketclip.study.grid import load_study
from pocketclip.study.names import as_text, slug
from pocketclip.study.samples import samples_of_rows

Write = Callable[..., Path]
FLIP: dict[str, Any] = {"name": "with flips", "set": {"train.augment": {"flip": True}}}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes a study of the tiny recipe beside it."""
    (tmp_path / "tiny.yaml").write_text(json.dumps(tiny_recipe_settings()))

    def written(*rows: dict[str, Any], name: str = "ladder", **keys: Any) -> Path:
        path = tmp_path / f"{name}.study.yaml"
        path.write_text(json.dumps({"base": "tiny.yaml", "rows": rows or [{"name": "plain"}, FLIP], **keys}))
        return path

    return written


def message(path: Path, *changes: str) -> str:
    with pytest.raises(UserError) as caught:
        samples_of_rows(load_study(str(path), changes))
    return str(caught.value)


def test_rows_are_the_base_with_their_own_settings(write: Write) -> None:
    study = load_study(str(write()))
    plain, flip = study.rows
    assert (study.name, plain.slug, flip.slug) == ("ladder", "plain", "with-flips")
    assert not plain.recipe.train.augment.flip
    assert flip.recipe.train.augment.flip
    assert flip.recipe.model == plain.recipe.model
    assert study.config.metrics == RECALLS
    assert flip.with_seed(7).seed == 7


@pytest.mark.parametrize(
    "value", [1e-5, 3e22, True, "0.1", "yes", "a: b", "'quoted'", None, [1, {"a": "b c"}], "x # y"]
)
def test_settings_reach_the_recipe_as_they_are(value: Any, write: Write, tmp_path: Path) -> None:
    write()
    change = f"odd.key={as_text(value)}"
    assert read_settings(tmp_path / "tiny.yaml", [change])["odd"] == {"key": value}


def test_a_row_may_start_from_another_recipe(write: Write, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(json.dumps(tiny_recipe_settings(max_grad_norm=0.5)))
    rows = [{"name": "a", "recipe": "tiny.yaml"}, {"name": "b", "recipe": str(tmp_path / "other.yaml")}]
    study = load_study(str(write(*rows, base=None)))
    assert [row.recipe.train.max_grad_norm for row in study.rows] == [1.0, 0.5]


def test_changes_reach_every_row_and_leave_the_rows_differences(write: Write) -> None:
    study = load_study(str(write()), ["train.num_steps=2", "seeds=[5]", "train.augment.crop_scale=[0.5, 1.0]"])
    assert study.config.seeds == (5,)
    assert [row.recipe.train.num_steps for row in study.rows] == [2, 2]
    assert study.rows[0].recipe.train.augment.crop_scale == (0.5, 1.0)
    assert study.rows[1].recipe.train.augment.flip


def test_a_study_never_looks_at_test(write: Write, tmp_path: Path) -> None:
    settings = tiny_recipe_settings()
    settings["data"]["test"] = {"kind": "scenes", "count": 4, "seed": 2}  # type: ignore[index]
    path = write()
    (tmp_path / "tiny.yaml").write_text(json.dumps(settings))
    assert load_recipe(str(tmp_path / "tiny.yaml")).data.test is not None
    assert all(row.recipe.data.test is None for row in load_study(str(path)).rows)


def test_steps_times_batch_size_must_be_equal_or_said_to_differ(write: Write) -> None:
    rows = [{"name": "short"}, {"name": "long", "set": {"train.num_steps": 6}}]
    assert "'short' 16, 'long' 24" in message(write(*rows))
    assert samples_of_rows(load_study(str(write(*rows, equal_steps=False)))) == {"short": 16, "long": 24}
    rows[1]["set"] = {"train.num_steps": 2, "train.batch_size": 8}
    assert samples_of_rows(load_study(str(write(*rows)))) == {"short": 16, "long": 16}


@pytest.mark.parametrize(
    ("rows", "keys", "said"),
    [
        ([{"name": "a", "sets": {}}], {}, "rows.0.sets: unknown key 'sets'. Did you mean 'set'?"),
        ([{"name": "a"}, {"name": "a"}], {}, "two rows are called 'a'"),
        ([{"name": "A b"}, {"name": "a-b", "set": {"train.num_steps": 3}}], {}, "would share the folder a-b"),
        ([{"name": "../a"}], {}, "cannot hold / or"),
        ([{"name": "…"}], {}, "needs a letter or digit of ASCII"),
        ([{"name": "a"}], {"base": None}, "base is required, because row 'a' names no recipe"),
        ([{"name": "a"}], {"base": "nowhere"}, "row 'a': Unknown recipe 'nowhere'"),
        ([{"name": "a", "set": {"train.batchsize": 4}}], {}, "row 'a': "),
        ([{"name": "a", "set": {"seed": 4}}], {}, "'seed' is the study's; give it seeds"),
        ([{"name": "a", "set": {"a=b": 4}}], {}, "should be a dotted key"),
        ([{"name": "a"}, {"name": "b", "set": {"data.val": "scenes:4"}}], {}, "validated on different pictures"),
        ([{"name": "a"}, {"name": "b"}], {}, "are the same run"),
        ([{"name": "a"}], {"seeds": [1, 1]}, "seeds holds a value twice"),
        ([{"name": "a"}], {"seeds": []}, "seeds: "),
        ([{"name": "a"}], {"colour": 1}, "unknown key 'colour'"),
    ],
)
def test_bad_studies_are_one_clear_line(
    rows: list[dict[str, Any]], keys: dict[str, Any], said: str, write: Write
) -> None:
    text = message(write(*rows, **keys))
    assert said in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("seed=3", "use --set seeds=[0]"),
        ("train.num_steps=3", "has no effect, because every row"),
    ],
)
def test_changes_without_effect_are_refused(change: str, said: str, write: Write) -> None:
    rows = [{"name": name, "set": {"train.num_steps": 2, "train.max_grad_norm": n}} for n, name in ((1, "a"), (2, "b"))]
    assert said in message(write(*rows), change)


def test_recipes_and_studies_are_not_taken_for_each_other(write: Write) -> None:
    path = write()
    with pytest.raises(UserError, match=r"use `pocketclip study`"):
        load_recipe(str(path))
    assert "no study" in message(path.parent / "tiny.yaml")
    assert not [name for name in list_recipes() if "study.yaml" in name or name.endswith(".study")]
    assert all(find_study(name).is_file() for name in list_studies())
    with pytest.raises(UserError, match="Unknown study 'nothing'"):
        find_study("nothing")


def test_folders_are_plain() -> None:
    assert slug("MSE + queue (65,536)") == "mse-queue-65-536"
    assert slug("Zürich, 2 Köpfe") == "zurich-2-kopfe"
