"""A fit whose heads use up its time: it ends with them, says so, and goes on as any other."""

import time
from pathlib import Path
from typing import Any

import pytest

from conftest import QuietWatch, tiny_recipe_settings
from pocketclip.errors import BudgetTooSmallError
from pocketclip.recipe import Recipe, load_recipe
from pocketclip.study.fit import carry
from pocketclip.study.fit.carry import UNTUNED, Fitting, Request, begin, carry_out
from pocketclip.study.fit.limits import Limits
from pocketclip.train.loop import Trainer

OVER = {"seconds": 0.001}
"""A budget that no machine keeps."""


def fitting_of(**stages: Any) -> Fitting:
    settings: Any = tiny_recipe_settings(num_steps=None, budget=OVER)
    recipe = Recipe.parse({**settings, **stages}, place="tiny")
    request = Request(source="scenes:24", limits=Limits(budget_seconds=1))
    return Fitting(request=request, lines=("Because.",), seconds={}, recipe=recipe.model_dump(mode="json"))


@pytest.mark.slow
def test_heads_that_use_up_the_time_are_what_is_handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    step = Trainer._step
    monkeypatch.setattr(Trainer, "_step", lambda self, batch: (steps.append(self.name), step(self, batch))[1])
    rates = {"heads": 0.01}
    heads = {"num_steps": 3, "batch_size": 4, "learning_rate": rates, "cache": {"views": ["centre"]}}
    fitting, folder = fitting_of(heads_first=heads), tmp_path / "out"
    begin(fitting, folder)
    for again in (False, True):
        watch, written = QuietWatch(), Request(source="scenes:24", limits=Limits(budget_seconds=1))
        there = Fitting.there(folder, written)
        assert there is not None
        fitted = carry_out(there, folder, device="cpu", started=time.perf_counter(), watch=watch)
        assert (UNTUNED in watch.notes) is not again
        assert steps == ["heads_first"] * 3 + ["train"]  # the one of the towers that found the time over
        assert (fitted.outcome.record.num_steps, fitted.broken) == (3, ())
        assert (folder / "bundle" / "config.json").is_file()
        recipe = load_recipe(str(folder))
        assert (recipe.heads_first, recipe.train.num_steps, recipe.train.budget) == (None, 3, None)
    after = Fitting.there(folder, written)
    assert after is not None
    assert after.lines == ("Because.", UNTUNED)


def test_towers_alone_for_which_the_time_is_too_short_are_refused(tmp_path: Path) -> None:
    fitting = fitting_of()
    begin(fitting, tmp_path / "out")
    with pytest.raises(BudgetTooSmallError, match=r"train.budget: 0.001 seconds is too small for one batch"):
        carry_out(fitting, tmp_path / "out", device="cpu", started=time.perf_counter(), watch=QuietWatch())
    assert carry.UNTUNED not in fitting.lines
