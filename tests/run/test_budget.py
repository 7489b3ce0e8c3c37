"""What a run may spend: steps from its budget, what the record says of it, and budgets that cannot be kept."""

import re
from pathlib import Path
from typing import Any

import pytest

from conftest import QuietWatch, tiny_recipe_settings
from pocketclip.config import apply_change
from pocketclip.cost.energy import Energy
from pocketclip.errors import UserError
from pocketclip.recipe import Recipe
from pocketclip.records import RunRecord
from pocketclip.run import budget as budgets
from pocketclip.run.budget import check_budgets
from pocketclip.run.state import Run
from pocketclip.run.train import train
from pocketclip.train.config import BudgetConfig

HEADS: dict[str, Any] = {"cache": {"views": ["centre"]}}


def record(folder: Path, *, price: float | None = None, **changes: Any) -> RunRecord:
    recipe = Recipe.parse(tiny_recipe_settings(**changes), place="test")
    return train(recipe, folder, name="tiny", watch=QuietWatch(), dollars_per_hour=price).record


@pytest.mark.slow
def test_multiply_accumulates_pay_for_so_many_steps(tmp_path: Path) -> None:
    plain = record(tmp_path / "plain")
    assert plain.budget is None
    assert plain.macs_per_sample is not None
    batch = 4 * plain.macs_per_sample
    assert plain.spent["macs"] == pytest.approx(4 * batch)
    found = record(tmp_path / "budget", num_steps=None, budget={"macs": 6.9 * batch})
    assert found.num_steps == 6
    assert found.budget == {"macs": 6.9 * batch}
    assert found.spent["macs"] == pytest.approx(6 * batch)
    assert found.spent["seconds"] > 0


@pytest.mark.slow
def test_the_stages_before_the_last_one_are_paid_too(tmp_path: Path) -> None:
    settings: Any = tiny_recipe_settings()
    settings["heads_first"] = {"num_steps": 3, "batch_size": 4, "learning_rate": {"heads": 0.1}, **HEADS}
    before = train(Recipe.parse(settings, place="x"), tmp_path / "a", name="tiny", watch=QuietWatch()).record
    settings["train"]["budget"] = {"macs": before.spent["macs"]}
    after = train(Recipe.parse(settings, place="x"), tmp_path / "b", name="tiny", watch=QuietWatch()).record
    assert after.num_steps == before.num_steps
    settings["train"]["budget"] = {"macs": 1.0}
    with pytest.raises(UserError, match="and the stages before take"):
        train(Recipe.parse(settings, place="x"), tmp_path / "c", name="tiny", watch=QuietWatch())


def test_too_few_for_a_batch_names_the_nearest_that_works(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too small: one batch of 4 takes") as caught:
        record(tmp_path / "small", budget={"macs": 1000})
    nearest = re.search(r"--set train\.budget\.macs=(\S+?)\.?$", str(caught.value))
    assert nearest is not None
    assert record(tmp_path / "nearest", budget={"macs": float(nearest[1])}).num_steps == 1


@pytest.mark.slow
@pytest.mark.parametrize("changes", [HEADS, {}])
def test_a_time_ends_the_run(tmp_path: Path, changes: dict[str, Any]) -> None:
    found = record(tmp_path / "run", price=3.6, budget={"seconds": 8}, **changes)
    assert found.budget == {"seconds": 8}
    assert found.num_steps > 4
    assert found.spent.keys() == {"macs", "seconds", "device_hours", "dollars"}
    assert found.spent["dollars"] == pytest.approx(found.spent["seconds"] / 1000)


def test_a_time_leaves_room_for_the_bank_against_hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketclip.run.budget.hubs_seconds", lambda run, whole: 1000.0)
    with pytest.raises(UserError, match=r"too small for one batch: .* take 1e\+03 s here"):
        record(tmp_path / "run", budget={"seconds": 500})


def test_steps_to_keep_behind_the_end_are_told(tmp_path: Path) -> None:
    """As where a time is over, or a patience ends the run."""
    stopping = {"metric": "mean_recall", "patience": 1}
    changes = {"num_steps": 40, "keep_steps": [1, 40], "evaluate_every": 1, "early_stopping": stopping}
    frozen = {"learning_rate": {"heads": 1e-12}, "schedule": {"kind": "constant"}}
    found = record(tmp_path / "run", **changes, **frozen, **HEADS)
    assert found.num_steps < 40
    assert f"train.keep_steps: the run ended at step {found.num_steps}, before 40" in found.notes
    assert len(list((tmp_path / "run").rglob("kept-*.pt"))) == 1


def test_a_time_that_is_over_before_the_first_batch_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"too small for one batch: .* Give at least --set train.budget.seconds=\d"):
        record(tmp_path / "run", budget={"seconds": 0.001})


def run_with(price: float | None = None, watts: float | None = None) -> Run:
    made: Run = Run.__new__(Run)
    made.dollars_per_hour, made.energy = price, Energy()
    if watts is not None:
        made.energy.watts = lambda: watts  # type: ignore[method-assign]
    return made


@pytest.mark.parametrize(
    ("amount", "options", "seconds"),
    [
        ({"seconds": 20}, {}, 20),
        ({"minutes": 20}, {}, 1200),
        ({"device_hours": 0.5}, {}, 1800),
        ({"dollars": 0.1}, {"price": 0.4}, 900),
        ({"dollars": 0.1, "dollars_per_hour": 0.2}, {}, 1800),
        ({"dollars": 0.1, "dollars_per_hour": 0.2}, {"price": 0.4}, 900),  # the option goes first
        ({"joules": 9000, "watts": 30}, {}, 300),
        ({"joules": 9000}, {"watts": 45}, 200),
    ],
)
def test_every_amount_is_a_time_on_this_machine(
    amount: dict[str, float], options: dict[str, float], seconds: float
) -> None:
    config = BudgetConfig.parse(amount, place="test")
    assert budgets.seconds_for(run_with(**options), "train", config)() == pytest.approx(seconds)


def test_on_two_devices_a_device_hour_is_half_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets.distributed, "world_size", lambda: 2)
    config = BudgetConfig.parse({"device_hours": 1}, place="test")
    assert budgets.seconds_for(run_with(), "train", config)() == pytest.approx(1800)


@pytest.mark.slow
@pytest.mark.parametrize("amount", [{"macs": 1000}, {"dollars": 1}, {"joules": 1}])
def test_the_change_named_for_an_earlier_stage_is_one_that_works(tmp_path: Path, amount: dict[str, float]) -> None:
    settings: Any = tiny_recipe_settings(num_steps=1)
    settings["early_stages"] = [{"name": "low", **settings["train"], "budget": amount}]
    with pytest.raises(UserError, match=r"^early_stages\.low\.budget: ") as caught:
        train(Recipe.parse(settings, place="x"), tmp_path / "a", name="tiny", watch=QuietWatch())
    change = str(caught.value).split("--set ")[1].split(" ")[0].rstrip(".")
    apply_change(settings, change)
    recipe = Recipe.parse(settings, place="x")
    check_budgets(recipe, None, with_energy=False)
    if "macs" in amount:
        assert train(recipe, tmp_path / "b", name="tiny", watch=QuietWatch()).record.num_steps == 2


@pytest.mark.parametrize(
    ("amount", "said"),
    [({"dollars": 1}, "give --price DOLLARS_PER_HOUR"), ({"joules": 1}, "`train --energy` measures it, or give")],
)
def test_a_budget_without_its_price_is_refused_before_any_work(amount: dict[str, float], said: str) -> None:
    recipe = Recipe.parse(tiny_recipe_settings(budget=amount), place="test")
    with pytest.raises(UserError, match=said):
        check_budgets(recipe, None, with_energy=False)
    check_budgets(recipe, 0.1, with_energy=True)


def test_what_cannot_be_measured_says_so() -> None:
    config = BudgetConfig.parse({"joules": 1}, place="test")
    with pytest.raises(UserError, match=r"cannot be measured .* --set train.budget.watts=50"):
        budgets.seconds_for(run_with(), "train", config)()
