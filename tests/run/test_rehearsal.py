"""A run is reckoned from a rehearsal: each of its parts, what is cached already, and a budget that fills itself."""

from pathlib import Path
from typing import Any

import pytest

from conftest import QuietWatch, tiny_recipe_settings
from pocketclip.cost.plan import Plan
from pocketclip.errors import UserError
from pocketclip.features.cache import cache_folder
from pocketclip.recipe import Recipe
from pocketclip.run.plan import plan_run
from pocketclip.run.rehearsal import Stage
from pocketclip.run.train import train
from pocketclip.train.config import HardNegativesConfig

HEADS: dict[str, Any] = {"cache": {"views": ["centre"]}}
EARLY = {"name": "low", "num_steps": 3, "batch_size": 4, "learning_rate": {"heads": 0.01}}


def planned(**changes: Any) -> Plan:
    return plan_run(Recipe.parse(tiny_recipe_settings(**changes), place="test"), "mine", "this")


def test_every_part_of_a_run_is_reckoned() -> None:
    found = planned(num_steps=30, evaluate_every=1)
    assert found.throughput.origin == "measured"
    assert found.throughput.source.startswith("rehearsed now on some of its own pictures (start ")
    assert found.samples_seen == 30 * 4
    assert found.seconds.keys() == {"start", "evaluation", "end", "training", "validation"}
    assert found.hours * 3600 == pytest.approx(sum(found.seconds.values()), rel=0.01, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [None, {"seconds": 500}])
def test_a_bank_against_hubs_is_reckoned(budget: dict[str, float] | None) -> None:
    settings: Any = tiny_recipe_settings(**({} if budget is None else {"budget": budget}))
    found = plan_run(Recipe.parse({**settings, "hubs": {}}, place="test"), "mine", "this")
    assert found.seconds["hubs"] > 0
    if budget is not None:
        assert found.hours * 3600 == pytest.approx(500, rel=0.02)


def test_only_what_the_cache_lacks_is_reckoned_and_nothing_is_kept(tmp_path: Path) -> None:
    assert planned(**HEADS).seconds["caches"] > 0
    assert not list(cache_folder().glob("*"))
    train(Recipe.parse(tiny_recipe_settings(**HEADS), place="x"), tmp_path / "run", name="x", watch=QuietWatch())
    assert "caches" not in planned(**HEADS).seconds


def test_a_second_look_at_what_is_measured_is_reckoned(tmp_path: Path) -> None:
    """One that the cache lacks alone, too: once the same run without it was trained."""
    settings: Any = tiny_recipe_settings(**HEADS)
    train(Recipe.parse(settings, place="x"), tmp_path / "once", name="x", watch=QuietWatch())
    settings["model"]["image_encoder"]["second_look"] = {"image_size": 24}
    twice = Recipe.parse(settings, place="x")
    assert plan_run(twice, "mine", "this").seconds["caches"] > 0
    train(twice, tmp_path / "twice", name="x", watch=QuietWatch())
    assert "caches" not in plan_run(twice, "mine", "this").seconds


def test_all_stages_are_in_it() -> None:
    settings: Any = tiny_recipe_settings()
    settings["heads_first"] = {"num_steps": 3, "batch_size": 8, "learning_rate": {"heads": 0.1}, **HEADS}
    found = plan_run(Recipe.parse(settings, place="test"), "mine", "this")
    assert found.samples_seen == 3 * 8 + 4 * 4


def test_a_budget_is_what_the_run_takes() -> None:
    found = planned(budget={"seconds": 500})
    assert found.hours * 3600 == pytest.approx(500, rel=0.02)
    assert found.samples_seen > 1000
    with pytest.raises(UserError, match=r"train.budget: how many steps .* --hardware this .* \(got a100\)"):
        plan_run(Recipe.parse(tiny_recipe_settings(budget={"seconds": 500}), place="test"), "mine", "a100")


@pytest.mark.slow
def test_macs_are_planned_as_they_are_trained(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"budget": {"macs": 1.0e9}}
    recipe = Recipe.parse(tiny_recipe_settings(**changes), place="x")
    outcome = train(recipe, tmp_path / "run", name="x", watch=QuietWatch())
    assert planned(**changes).samples_seen == 4 * outcome.record.num_steps


@pytest.mark.parametrize(
    ("stage", "evaluations"), [((10, 1.0, 5.0, None), 1), ((10, 1.0, 5.0, 5), 2), ((11, 1.0, 5.0, 5), 3)]
)
def test_the_last_step_is_evaluated_too(stage: tuple[int, float, float, int | None], evaluations: int) -> None:
    reckoned = Stage(*stage)
    assert reckoned.seconds == stage[0] + 5.0 * evaluations


def test_a_schedule_and_kept_steps_of_a_long_run_are_planned() -> None:
    schedule = {"kind": "constant", "warmup_steps": 20, "cooldown": 0.2}
    assert planned(num_steps=300, schedule=schedule, keep_steps=[120]).samples_seen == 300 * 4


@pytest.mark.slow
def test_of_a_branch_what_is_left_is_planned() -> None:
    settings: Any = tiny_recipe_settings(
        num_steps=300, schedule={"kind": "constant", "cooldown": 0.2}, branch={"run": "trunk"}
    )
    settings["early_stages"] = [EARLY]
    recipe = Recipe.parse(settings, place="test")
    here, there = plan_run(recipe, "mine", "this"), plan_run(recipe, "mine", "this", throughput=10.0)
    assert here.samples_seen == there.samples_seen == 60 * 4
    assert any("its trunk did" in note for note in here.notes)
    late = {"branch": {"run": "trunk", "step": 300}, "num_steps": 300, "schedule": {"kind": "constant"}}
    with pytest.raises(UserError, match=r"the run is over at step 300 \(got 300\)"):
        planned(**late)


@pytest.mark.parametrize("amount", [{"dollars": 1}, {"joules": 1}])
def test_a_budget_without_its_price_is_refused_at_once(amount: dict[str, float], monkeypatch: Any) -> None:
    monkeypatch.setattr("pocketclip.run.rehearsal.Run", None)  # no work is begun
    with pytest.raises(UserError, match=r"train\.budget: .* give --"):
        planned(budget=amount)


@pytest.mark.slow
@pytest.mark.parametrize("before", [(), ({**EARLY, "learning_rate": {"heads": 0.01, "image_encoder": 0.001}},)])
def test_neighbours_are_found_among_all_pictures(before: tuple[Any, ...]) -> None:
    """By the tower that a run starts from, or by one that was trained before."""
    settings: Any = {**tiny_recipe_settings(num_workers=0), "early_stages": before}
    settings["data"]["train"]["count"] = 150
    recipe = Recipe.parse(settings, place="test")
    assert "caches" not in plan_run(recipe, "mine", "this").seconds
    near = recipe.train.model_copy(update={"hard_negatives": HardNegativesConfig(group=2)})
    assert plan_run(recipe.model_copy(update={"train": near}), "mine", "this").seconds["caches"] > 0


@pytest.mark.parametrize(("seconds", "steps"), [(100.0, 50), (5.5, 1), (0.0, 1), (-3.0, 1)])
def test_evaluations_are_within_the_time_of_a_stage(seconds: float, steps: int) -> None:
    assert Stage(10, 1.0, 5.0, 5).filling(seconds).num_steps == steps


@pytest.mark.slow
def test_an_earlier_stage_fills_its_own_budget() -> None:
    settings: Any = tiny_recipe_settings()
    settings["early_stages"] = [{**EARLY, "num_workers": 0, "budget": {"seconds": 100}}]
    found = plan_run(Recipe.parse(settings, place="test"), "mine", "this")
    assert 90 < found.seconds["training"] + found.seconds["validation"] < 102
