"""What a study says in words: winners, what can't be told, laws, and what has no score."""

from pathlib import Path

import numpy as np
import pytest

from grids import cell, grid_record, write_grid
from pocketclip.records import Interval
from pocketclip.study.effects import AxisEffects, Effect
from pocketclip.study.figures import MOST_POINTS, study_charts
from pocketclip.study.findings import axis_sentence, find_out, left_out
from pocketclip.study.laws import fit_laws, residual_chart
from pocketclip.study.page import write_study_page
from pocketclip.study.record import StudyRecord
from pocketclip.study.scored import Axis, Cells


def against(better: str, worse: str, value: float, half: float, pairs: int = 24) -> Effect:
    return Effect(better, worse, pairs, Interval(value=value, low=value - half, high=value + half))


@pytest.mark.parametrize(
    ("levels", "effects", "sentence"),
    [
        (
            "ab", [against("a", "b", 0.02, 0.01)],
            "s: ‘a’ wins. At equal other levels its T→I R@1 is 2.0 points [1.0, 3.0] (24 pairs of cells) above ‘b’.",
        ),
        (
            "abc", [against("a", "b", 0.02, 0.015), against("a", "c", 0.03, 0.028, 1)],
            "s: ‘a’ wins. At equal other levels its T→I R@1 is 3.0 points [0.2, 5.8] (one pair of cells) above ‘c’.",
        ),
        (
            "ab", [against("a", "b", 0.01, 0.02)],
            "s: it can't be told which is best. ‘a’ is 1.0 points [-1.0, 3.0] (24 pairs of cells) above ‘b’.",
        ),
        (
            "ab", [against("a", "b", -0.0004, 0.02)],
            "s: it can't be told which is best. ‘a’ is 0.0 points [-2.0, 2.0] (24 pairs of cells) above ‘b’.",
        ),
        (
            "abcd", [against("a", "b", 0.01, 0.02), against("a", "c", 0.02, 0.03), against("a", "d", 0.05, 0.01)],
            "s: it can't be told which is best. ‘a’ is 1.0 points [-1.0, 3.0] (24 pairs of cells) above ‘b’, and as "
            "good may be ‘c’. Worse than ‘a’ for sure: ‘d’.",
        ),
        (
            "abc", [against("a", "b", 0.05, 0.01)],
            "s: it can't be told which is best. Worse than ‘a’ for sure: ‘b’. Nothing compares ‘a’ with ‘c’ at equal "
            "other levels.",
        ),
        (
            "ab", [against("a", "b", 0.05, np.inf, 1)],
            "s: it can't be told which is best. ‘a’ is 5.0 points, of which one run each tells no interval (one pair "
            "of cells), above ‘b’.",
        ),
    ],
    ids=["won", "won from the nearest", "open", "open by nothing", "open among three", "unmet", "one run"],
)  # fmt: skip
def test_an_axis_in_a_sentence(levels: str, effects: list[Effect], sentence: str) -> None:
    found = AxisEffects(Axis("s", list(levels)), list(levels), effects)
    assert axis_sentence(found, Cells(grid_record(seeds=(0,)))) == sentence


def test_the_summary_has_a_sentence_an_axis_and_one_of_the_law() -> None:
    found = find_out(grid_record(budgets=[24e3, 48e3, 96e3, 192e3, 384e3]))
    assert [sentence.split(":")[0] for sentence in found.summary[:5]] == [
        "architecture", "data", "quality", "strategy", "budget",
    ]  # fmt: skip
    assert "error falls as compute to the power of −0." in found.summary[5]
    assert found.winners is not None
    assert found.winners[0] == ["budget", "architecture", "data", "quality", "strategy"]
    assert len(found.winners[1]) == 5


def test_without_enough_amounts_of_compute_there_is_no_law_and_it_is_said() -> None:
    record = grid_record(dropped=False)
    rows = [row.model_copy(update={"macs_per_sample": 1e9}) for row in record.rows]
    found = find_out(record.model_copy(update={"rows": rows}))
    assert found.laws == []
    assert found.summary[-1].startswith("How error falls with compute can't be told")
    assert residual_chart(found.laws) is None


def record_of_laws(exponents: dict[str, float], budgets: list[float]) -> StudyRecord:
    base, rows = grid_record(seeds=(0,), dropped=False), []
    for name, exponent in exponents.items():
        for samples in budgets:
            place = {"strategy": name, "budget": f"{samples:g}"}
            row = cell(place, [1 - 0.8 * (samples / 1000) ** -exponent], rows[0] if rows else None, [0])
            rows.append(row.model_copy(update={"samples_seen": int(samples), "macs_per_sample": 1e9}))
    axes = {"strategy": list(exponents), "budget": [f"{samples:g}" for samples in budgets]}
    return base.model_copy(update={"rows": rows, "axes": axes, "seeds": [0]})


def test_each_series_of_cells_that_differ_in_scale_alone_has_a_law() -> None:
    laws = fit_laws(Cells(record_of_laws({"CLIP": 0.1, "SLIP": 0.2}, [1e3, 3e3, 1e4, 3e4, 1e5])))
    assert [law.name for law in laws] == ["SLIP", "CLIP"]  # the least error first
    assert [law.law.b.value for law in laws] == pytest.approx([0.2, 0.1], rel=1e-2)
    assert laws[0].ends == (1e12, 1e14)
    assert fit_laws(Cells(record_of_laws({"CLIP": 0.1}, [1e3, 3e3, 1e4]))) == []
    assert fit_laws(Cells(record_of_laws({"CLIP": 0.1}, [1e3, 1.1e3, 1.2e3, 1.3e3]))) == []


def test_a_law_whose_points_were_picked_is_called_optimistic(tmp_path: Path) -> None:
    record = record_of_laws({"CLIP": 0.1, "SLIP": 0.2}, [1e3, 3e3, 1e4, 3e4, 1e5])
    assert not any(law.is_picked for law in fit_laws(Cells(record)))
    twice = [row.model_copy(update={"name": f"{row.name} again"}) for row in record.rows[:1]]
    picked = [law.name for law in fit_laws(Cells(record.model_copy(update={"rows": [*record.rows, *twice]})))
              if law.is_picked]  # fmt: skip
    assert picked == ["CLIP"]
    found = find_out(grid_record())
    assert found.picked_laws == "‘the front’"
    assert found.summary[-1].endswith("That is optimistic: its points are the best of several cells, some by chance.")
    page = write_study_page(write_grid(tmp_path / "out", grid_record())).read_text(encoding="utf-8")
    assert "Optimistic for ‘the front’" in page


def test_what_has_no_score_is_told_by_reason() -> None:
    found = left_out(grid_record())
    assert [(part.count, len(part.names)) for part in found] == [(6, 4), (1, 1), (1, 1)]
    assert found[0].reason.startswith("does not fit: ")
    assert found[1].reason == "diverged: the loss was not finite at step 31"
    assert found[2].names == ["ViT-S/32, 1,500, all, SLIP, seed 1"]
    many = {f"row {number}": f"reason {number}" for number in range(50)}
    parts = left_out(grid_record(dropped=False).model_copy(update={"failed": many}))
    assert parts[-1].reason == "30 other reasons, which cells.csv names"
    assert sum(part.count for part in parts) == 50


def test_every_chart_has_one_range_of_errors_and_points_that_tell_their_recipe() -> None:
    cells = Cells(grid_record(budgets=[24e3, 96e3, 384e3]))
    charts = {chart.slug: chart for chart in study_charts(cells, fit_laws(cells))}
    assert list(charts) == [
        "compute", "parameters", "latency", "architecture-by-data", "architecture-by-budget", "data-by-budget",
        "quality-by-budget", "strategy-by-budget",
    ]  # fmt: skip
    assert len({chart.y_range for chart in charts.values()}) == 1
    compute = charts["compute"]
    assert len(compute.marks) == MOST_POINTS < len(cells)
    assert compute.note == f"200 of {len(cells)} cells are shown, the front among them."
    front = [compute.marks[place] for place in compute.numbered]
    assert [mark.y.value for mark in front] == sorted((mark.y.value for mark in front), reverse=True)
    assert all("flickr/flickr8k_finetune_cpu\nmodel.image_encoder.name=" in mark.about for mark in compute.marks)
    assert charts["strategy-by-budget"].series == ["CLIP", "CLIP + augmentation", "FLIP", "SLIP"]
    assert [name for _, name in charts["strategy-by-budget"].ticks] == ["24000", "96000", "384000"]


def test_means_are_of_cells_that_every_level_has() -> None:
    """SLIP on ResNet-50, the best architecture, was dropped: no mean of another strategy may hold ResNet-50 then."""
    charts = {chart.slug: chart for chart in study_charts(Cells(grid_record()))}
    counts = {mark.about.split(" % of ")[1] for mark in charts["strategy-by-data"].marks}
    assert counts == {"6 cells", "5 cells"}  # of 8, and of one more that diverged
