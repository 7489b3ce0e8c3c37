"""What levels bring: known gains are found, chance is not, and cells that do not meet are not compared."""

from itertools import product

import numpy as np
import pytest

from grids import STRATEGIES, cell, grid_record
from pocketclip.study.effects import compare_levels, compare_within, num_comparisons
from pocketclip.study.record import StudyRecord
from pocketclip.study.scored import Axis, Cells


def effects_of(record: StudyRecord, axis: str):
    return next(found for found in compare_levels(Cells(record)) if found.axis.name == axis)


def record_of(scores: dict[tuple[str, str], list[float]]) -> StudyRecord:
    """A grid of two axes, `a` and `b`."""
    rows: list = []
    for (a, b), own in scores.items():
        rows.append(cell({"a": a, "b": b}, own, rows[0] if rows else None, range(len(own))))
    levels = {"a": list(dict.fromkeys(a for a, _ in scores)), "b": list(dict.fromkeys(b for _, b in scores))}
    seeds = max(map(len, scores.values()))
    base = grid_record(seeds=(0,), dropped=False)
    return base.model_copy(update={"rows": rows, "axes": levels, "seeds": list(range(seeds))})


def test_a_grid_tells_what_each_strategy_brings() -> None:
    found = effects_of(grid_record(dropped=False), "strategy")
    assert found.ranking[0] == found.winner == "CLIP + augmentation"
    assert {effect.num_cells for effect in found.against_best} == {24}
    clip = next(effect for effect in found.against_best if effect.worse == "CLIP")
    assert clip.gain.low < STRATEGIES["CLIP + augmentation"][0] < clip.gain.high
    assert clip.gain.value == pytest.approx(0.015, abs=0.004)


def test_cells_that_are_missing_leave_pairs_out() -> None:
    found = effects_of(grid_record(), "strategy")
    pairs = {effect.worse: effect.num_cells for effect in found.against_best}
    assert pairs == {"SLIP": 17, "CLIP": 23, "FLIP": 23}  # ResNet-50 has no SLIP, and one cell diverged


def test_what_is_told_by_chance_alone_cannot_be_told() -> None:
    wins = 0
    for seed in range(60):
        noise = np.random.default_rng(seed)
        scores = {place: list(0.3 + 0.01 * noise.standard_normal(2)) for place in product("uvwx", "123456")}
        wins += any(effect.is_sure for found in compare_levels(Cells(record_of(scores)))
                    for effect in found.against_best)  # fmt: skip
    assert wins <= 5  # 21 comparisons in each of 60 grids; without care 40 of them would find something


def test_a_difference_that_one_cell_has_does_not_win_for_all() -> None:
    scores = {(a, b): [0.3, 0.301] for a, b in product("uv", "12345")}
    scores["v", "3"] = [0.5, 0.501]
    found = effects_of(record_of(scores), "a")
    assert found.ranking == ["v", "u"]
    assert found.winner is None
    assert [effect.worse for effect in found.rivals] == ["u"]


def test_one_run_each_tells_nothing() -> None:
    found = effects_of(record_of({("u", "1"): [0.3], ("v", "1"): [0.9]}), "a")
    assert found.winner is None
    assert found.against_best[0].gain.low == -np.inf


def test_levels_that_never_meet_are_not_compared() -> None:
    assert compare_levels(Cells(record_of({("u", "1"): [0.3, 0.3], ("v", "2"): [0.9, 0.9]}))) == []
    scores = {("u", "1"): [0.3, 0.3], ("v", "1"): [0.5, 0.5], ("u", "2"): [0.3, 0.3], ("v", "2"): [0.5, 0.5],
              ("w", "3"): [0.9, 0.9]}  # fmt: skip
    found = effects_of(record_of(scores), "a")
    assert found.winner is None  # nothing sets w beside the others


def test_the_more_is_compared_the_wider_the_intervals() -> None:
    cells = Cells(grid_record(dropped=False))
    whole, parts = compare_levels(cells), compare_within(cells, Axis("data", ["1,500", "3,000", "6,000"]))
    assert num_comparisons(whole) == 6 + 3 + 1 + 6
    assert set(parts) == {"1,500", "3,000", "6,000"}
    gains = [effects.against_best[0].gain for effects in (whole[3], parts["1,500"][2]) if effects is not None]
    assert gains[1].high - gains[1].low > gains[0].high - gains[0].low


def test_what_pictures_do_to_all_cells_alike_makes_no_doubt() -> None:
    scores = {(a, b): [0.3 + 0.004 * (a == "v") + 0.0002 * int(b)] * 2 for a, b in product("uv", "12345")}
    record = record_of(scores)
    assert effects_of(record, "a").winner is None  # the pictures' usual doubt of a pair hides so small a gain
    random = np.random.default_rng(0)
    shared = random.normal(0, 1000, 128).round().astype(int)
    rows = [row.model_copy(update={"draws": " ".join(map(str, shared))}) for row in record.rows]
    assert effects_of(record.model_copy(update={"rows": rows}), "a").winner == "v"
    own = [random.normal(0, 1000, 128).round().astype(int) for _ in rows]
    rows = [row.model_copy(update={"draws": " ".join(map(str, each))}) for row, each in zip(rows, own, strict=True)]
    assert effects_of(record.model_copy(update={"rows": rows}), "a").winner is None
