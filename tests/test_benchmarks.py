"""What benchmarks put down beside what they time."""

import json
import runpy
from pathlib import Path

import pytest

from conftest import tiny_recipe_settings
from pocketclip.hardware import describe_hardware
from pocketclip.recipe import Recipe

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.mark.slow
def test_the_cost_beside_a_recipes_scores_is_that_of_the_changed_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    cost_of = runpy.run_path(str(BENCHMARKS / "recipe.py"))["cost_of"]
    recipe = Recipe.parse(tiny_recipe_settings(), place="test")
    wider = recipe.model_copy(
        update={"model": recipe.model.model_copy(update={"embed_dim": 2 * recipe.model.embed_dim})}
    )
    plain, changed = cost_of("tests/tiny", recipe), cost_of("tests/tiny", wider)
    assert plain["name"] == changed["name"] == "tiny"
    assert changed["parameters_heads"] > plain["parameters_heads"]
    assert changed["parameters_image"] == plain["parameters_image"]


def test_seeds_measured_earlier_stay_beside_new_ones_of_the_same_recipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = runpy.run_path(str(BENCHMARKS / "recipe.py"))
    earlier_record = benchmark["earlier_record"]
    recipe, path = Recipe.parse(tiny_recipe_settings(), place="test"), tmp_path / "record.json"

    def run(seed: int, step: int) -> dict[str, object]:
        fingerprint = recipe.model_copy(update={"seed": seed}).fingerprint()
        return {"seed": seed, "num_steps": step, "recipe_hash": fingerprint}

    earlier = {"hardware": describe_hardware(), "measured_by": "mine", "runs": [run(0, 1), run(2, 1)]}
    path.write_text(json.dumps(earlier))
    record = earlier_record(recipe, path)
    runs = benchmark["joined"](record["runs"], [run(1, 2), run(2, 2)])
    assert [(one["seed"], one["num_steps"]) for one in runs] == [(0, 1), (1, 2), (2, 2)]
    assert record == earlier
    other = recipe.model_copy(update={"model": recipe.model.model_copy(update={"embed_dim": 8})})
    with pytest.raises(AssertionError, match="is of another recipe"):
        earlier_record(other, path)
    path.write_text(json.dumps({**earlier, "hardware": "another"}))
    with pytest.raises(AssertionError, match="is of another"):
        earlier_record(recipe, path)
