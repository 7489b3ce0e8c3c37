"""The best recipe of each budget, and that its line is one that works."""

import shlex

import pytest

from grids import grid_record
from pocketclip.recipe import load_recipe
from pocketclip.study.best import best_recipes, budget_axis, macs, train_command
from pocketclip.study.findings import best_sentence
from pocketclip.study.grid import is_of_study
from pocketclip.study.scored import Cells


def test_each_budget_has_the_best_of_its_cells() -> None:
    record = grid_record(budgets=[24e3, 96e3, 384e3])
    cells = Cells(record)
    found = best_recipes(cells)
    assert [best.budget for best in found] == record.axes["budget"]
    for best in found:
        own = [cell for cell in cells if cell.row.levels["budget"] == best.budget]
        assert best.num_cells == len(own)
        assert best.cell is min(own, key=lambda cell: cell.error.value)
        assert all(rival.error.value >= best.cell.error.value for rival in best.rivals)
    axis = budget_axis(cells)
    assert axis is not None
    assert axis.name == "budget"


def test_without_budgets_they_spread_over_what_cells_took() -> None:
    found = best_recipes(Cells(grid_record()))
    assert len(found) == 4
    assert all(best.budget.startswith("up to ") and best.budget.endswith("MACs") for best in found)
    assert [best.num_cells for best in found] == sorted(best.num_cells for best in found)
    assert found[-1].num_cells == 89
    errors = [best.cell.error.value for best in found]
    assert errors == sorted(errors, reverse=True)


def test_cells_that_took_the_same_have_one_budget() -> None:
    record = grid_record(dropped=False)
    rows = [own.model_copy(update={"macs_per_sample": 1e9}) for own in record.rows]
    assert [best.budget for best in best_recipes(Cells(record.model_copy(update={"rows": rows})))] == ["up to 96 TMACs"]


def test_what_may_be_as_good_is_said() -> None:
    alike = grid_record(dropped=False, data={"6,000": 6000, "6,001": 6001})
    best = best_recipes(Cells(alike))[-1]
    assert len(best.rivals) > 0
    assert best_sentence(best).startswith(f"It can't be told from {len(best.rivals)} of 63 others, any of which may be")


def test_its_line_trains_that_recipe() -> None:
    record = grid_record()
    settings = {"train.num_epochs": 3, "train.augment": {"flip": True}, "data.train": "flickr:it's a place,my images"}
    row = record.rows[0].model_copy(update={"set": settings, "folder": "one-row"})
    words = shlex.split(train_command(record, row).replace("\\\n", " "))
    assert words[:3] == ["pocketclip", "train", "flickr/flickr8k_finetune_cpu"]
    assert words[-2:] == ["--out", "runs/one-row"]
    changes = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    assert changes[0] == "train.num_workers=1"  # of the command line; seeds=[0,1] is the study's own
    assert len(changes) == 4
    recipe = load_recipe(words[2], changes)
    assert recipe.train.num_epochs == 3
    assert recipe.train.augment is not None


@pytest.mark.parametrize(
    ("amount", "words"),
    [(12.0, "12 MACs"), (5.5e9, "5.50 GMACs"), (1e12, "1 TMACs"), (1.234e15, "1.23 PMACs"), (4e18, "4 EMACs")],
)
def test_macs_are_read_easily(amount: float, words: str) -> None:
    assert macs(amount) == words


@pytest.mark.parametrize(
    ("change", "of_study"),
    [("seeds=[0]", True), (" halving.keep=0.3", True), ("train.num_steps=2", False), ("seedsx=1", False)],
)
def test_changes_are_the_studys_by_their_first_key(change: str, of_study: bool) -> None:
    assert is_of_study(change) == of_study
