"""What benchmarks put down beside what they time."""

import runpy
from pathlib import Path

import pytest

from conftest import tiny_recipe_settings
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
