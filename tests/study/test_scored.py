"""Rows as points: their errors, what axes are, and how far seeds are from each other."""

import numpy as np
import pytest

from example_pages import make_study, row
from grids import SEED_SPREAD, UNIT_HALF, grid_record
from pocketclip.evaluate.statistics import resampled_ratios
from pocketclip.study.comparison import _draws
from pocketclip.study.record import read_study
from pocketclip.study.scored import Axis, Cells, main_metric


@pytest.mark.parametrize(
    ("levels", "amounts", "unit"),
    [
        (["1,500", "3000"], [1500, 3000], ""),
        (["10k", "2M"], [1e4, 2e6], ""),
        (["25 %", "100 %"], [25, 100], "%"),
        (["top 20 %", "top 100 %"], [20, 100], "%"),
        (["64px", "112px"], [64, 112], "px"),
        (["24000 samples", "48000 samples"], [24000, 48000], "samples"),
        (["5 minutes", "2 hours"], None, ""),
        (["CLIP", "SLIP"], None, ""),
        (["all", "top 60 %"], None, ""),
        (["1", "1.0"], None, ""),
        (["0", "5"], None, ""),
        (["ViT-S/16", "ViT-S/32"], None, ""),
        (["3"], None, ""),
    ],
)
def test_levels_are_amounts_where_all_are_different_ones_of_one_thing(
    levels: list[str], amounts: list[float] | None, unit: str
) -> None:
    axis = Axis("a", levels)
    assert (axis.amounts, axis.unit, axis.is_scale) == (amounts, unit, amounts is not None)


def test_budgets_are_a_scale_whatever_they_are_called() -> None:
    assert Axis("budget", ["short", "long"]).is_scale


def test_the_seeds_of_all_cells_tell_their_spread() -> None:
    cells = Cells(grid_record(dropped=False))
    assert (len(cells), cells.degrees, cells.is_pooled) == (96, 96, True)
    assert cells.seed_spread == pytest.approx(SEED_SPREAD, rel=0.15)
    assert cells.unit_sigma([(cells[0], cells[1])]) == pytest.approx(UNIT_HALF / 2 / 1.96, rel=1e-6)
    widths = [(cell.error.high - cell.error.low) / 2 for cell in cells]
    assert max(widths) == pytest.approx(min(widths), rel=1e-6)  # in the record two seeds differ by 0 to 10 times that
    assert widths[0] == pytest.approx((UNIT_HALF**2 + (1.985 * cells.seed_spread) ** 2 / 2) ** 0.5, rel=1e-2)


def test_records_without_single_seeds_keep_their_intervals() -> None:
    cells = Cells(grid_record(seeds=(0,), dropped=False))
    assert not cells.is_pooled
    assert all((cell.error.high - cell.error.low) / 2 == pytest.approx(UNIT_HALF) for cell in cells)


def test_rows_without_a_score_are_no_points(tmp_path) -> None:
    cells = Cells(read_study(make_study(tmp_path / "study", row("a", 0.2), row("b", None))))
    assert [cell.name for cell in cells] == ["a"]
    assert cells[0].error.value == pytest.approx(0.8)
    assert (cells[0].error.low, cells[0].error.high) == pytest.approx((0.77, 0.82))
    assert (cells[0].compute, cells[0].latency, cells.axes) == (None, None, [])
    assert cells.metric == "text_to_image_recall@1"
    nothing = read_study(make_study(tmp_path / "none", row("b", None)))
    assert main_metric(nothing) is None
    assert list(Cells(nothing)) == []


def test_pairs_are_resampled_together() -> None:
    """Against a plain bootstrap over pictures of the mean difference, where one pair's doubt makes up for another's."""
    random = np.random.default_rng(0)
    common = random.random(400)
    hits = [(common + random.normal(0, 0.1, 400) > bar).astype(float) for bar in (0.7, 0.6, 0.72, 0.58)]
    hits[2] = 1 - hits[2]
    draws = [resampled_ratios([{"": (own, np.ones(400))}], {})[""] for own in hits]
    record = grid_record(dropped=False)
    rows = [row.model_copy(update={"draws": _draws(own)}) for row, own in zip(record.rows[:4], draws, strict=True)]
    cells = Cells(record.model_copy(update={"rows": rows}))
    for pairs in ([(0, 1)], [(0, 2)], [(0, 1), (2, 3)], [(0, 2), (1, 3)]):
        difference = np.mean([hits[one] - hits[other] for one, other in pairs], axis=0)
        means = [difference[random.integers(0, 400, 400)].mean() for _ in range(2000)]
        found = cells.unit_sigma([(cells[one], cells[other]) for one, other in pairs])
        assert found == pytest.approx(np.std(means), rel=0.2)
    whole = np.std([np.mean(hits, axis=0)[random.integers(0, 400, 400)].mean() for _ in range(2000)])
    error = cells.mean_error(list(cells))
    half = (whole**2 * 1.96**2 + cells.seed_half(8) ** 2) ** 0.5
    assert (error.high - error.low) / 2 == pytest.approx(half, rel=0.2)
