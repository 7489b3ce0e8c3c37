"""The folder beside a study's page, and the page of a grid."""

import csv
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from example_pages import make_study, row
from grids import grid_record, write_grid
from pages import ATTACK, Page
from pocketclip.errors import UserError
from pocketclip.study.findings import find_out
from pocketclip.study.page import MOST_ROWS, write_study_page


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_grid_has_pictures_and_all_of_its_numbers(tmp_path: Path) -> None:
    record = grid_record(budgets=[24e3, 48e3, 96e3, 192e3, 384e3])
    folder = write_grid(tmp_path / "grid", record)
    out = write_study_page(folder)
    figures = folder / "study_figures"
    names = {path.name for path in figures.iterdir()}
    assert {"compute.png", "compute.svg", "latency.svg", "strategy-by-budget.png", "residuals.svg"} <= names
    assert {"cells.csv", "runs.csv", "axes.csv", "laws.csv", "residuals.csv", "best.csv"} <= names
    with Image.open(figures / "compute.png") as picture:
        assert picture.width > 700
    cells = rows_of(figures / "cells.csv")
    assert len(cells) == len(record.rows) == 480
    first = cells[0]
    assert (first["name"], first["strategy"], first["budget"]) == (record.rows[0].name, "CLIP", "24000 samples")
    assert float(first["compute_macs"]) == 0.9e9 * 24_000
    assert float(first["error"]) == pytest.approx(1 - float(first["text_to_image_recall@1"]))
    assert json.loads(first["settings"]) == record.rows[0].set
    assert {own["dropped"][:8] for own in cells} == {"", "diverged", "does not"}
    assert len(rows_of(figures / "runs.csv")) == record.num_finished
    assert len(rows_of(figures / "best.csv")) == 5
    text = out.read_text(encoding="utf-8")
    parsed = Page(text)
    assert "What was found" in parsed.text
    assert parsed.text.count("pocketclip train flickr/flickr8k_finetune_cpu") >= 5
    assert f"The first row and the {MOST_ROWS - 1} best of 480; study_figures/cells.csv has all." in parsed.text
    assert "diverged: the loss was not finite at step 31: " in parsed.text
    assert "://www.w3.org" in text  # the names of SVG's own words, and no other address
    assert text.count("://") == text.count("://www.w3.org")
    assert ("meta", "content") in {own[:2] for own in parsed.attributes}
    assert "script-src 'sha256-" in text


def test_the_folder_lies_beside_the_page_wherever_that_is(tmp_path: Path) -> None:
    folder = write_grid(tmp_path / "grid", grid_record(seeds=(0,)))
    write_study_page(folder, tmp_path / "elsewhere" / "mine.html")
    assert (tmp_path / "elsewhere" / "mine_figures" / "compute.svg").is_file()
    assert [path.name for path in folder.iterdir()] == ["study.json"]
    (tmp_path / "taken_figures").touch()
    with pytest.raises(UserError, match="taken_figures"):
        write_study_page(folder, tmp_path / "taken.html")


def test_what_users_wrote_does_not_run(tmp_path: Path) -> None:
    record = grid_record(seeds=(0,))
    axes = {("a" if name == "strategy" else name): levels for name, levels in record.axes.items()}
    axes["a"] = [ATTACK if level == "CLIP" else level for level in axes["a"]]
    rows = [
        own.model_copy(update={
            "name": f"{ATTACK} {own.name}", "set": {"x": ATTACK}, "dropped": ATTACK if own.dropped else None,
            "levels": {**{k: v for k, v in own.levels.items() if k != "strategy"},
                       "a": ATTACK if own.levels["strategy"] == "CLIP" else own.levels["strategy"]},
        })
        for own in record.rows
    ]  # fmt: skip
    folder = write_grid(tmp_path / "grid", record.model_copy(update={"rows": rows, "axes": axes, "name": ATTACK}))
    text = write_study_page(folder).read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert text.count("<script") == 1  # our own
    assert ATTACK in Page(text).text


def test_a_study_of_rows_has_pictures_where_rows_differ_in_what_they_took(tmp_path: Path) -> None:
    alike = [row("a", 0.2), row("b", 0.3, gain=0.1)]
    folder = make_study(tmp_path / "alike", *alike)
    assert "Pictures" not in Page(write_study_page(folder).read_text(encoding="utf-8")).text
    rows = [own.model_copy(update={"minutes": minutes}) for own, minutes in zip(alike, (2.0, 9.0), strict=True)]
    folder = make_study(tmp_path / "other", *rows)
    shown = Page(write_study_page(folder).read_text(encoding="utf-8")).text
    assert "Error against time of a run" in shown
    assert "up to 9 min: b" in shown
    assert (folder / "study_figures" / "minutes.png").is_file()


@pytest.mark.parametrize("name", ["mobileclip_flickr8k_ablation", "s_smke_flickr8k_ladder"])
def test_records_of_earlier_versions_have_a_page(name: str, tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    record = Path(__file__).parents[2] / "results" / f"{name}.json"
    (tmp_path / "study" / "study.json").write_bytes(record.read_bytes())
    shown = Page(write_study_page(tmp_path / "study").read_text(encoding="utf-8")).text
    assert "Error against time of a run" in shown
    assert "What was found" not in shown


def test_a_grid_without_a_score_says_why(tmp_path: Path) -> None:
    record = grid_record()
    rows = [own.model_copy(update={"metrics": {}, "runs": [], "dropped": "does not fit"}) for own in record.rows]
    folder = write_grid(tmp_path / "grid", record.model_copy(update={"rows": rows}))
    text = write_study_page(folder).read_text(encoding="utf-8")
    shown = Page(text).text
    assert "does not fit: ViT-S/32, 1,500, all, CLIP; " in shown
    assert "and 92 more" in shown
    assert "failed: its process ended with code -9" in shown
    assert "Pictures" not in shown
    assert "<script" not in text


def test_a_score_that_is_no_number_is_no_point(tmp_path: Path) -> None:
    record = grid_record()
    first = record.rows[0]
    measure = first.metrics["text_to_image_recall@1"]
    broken = measure.model_copy(update={"mean": measure.mean.model_copy(update={"value": math.nan})})
    rows = [first.model_copy(update={"metrics": dict.fromkeys(first.metrics, broken)}), *record.rows[1:]]
    found = find_out(record.model_copy(update={"rows": rows}))
    assert len(found.cells) == len(find_out(record).cells) - 1
    assert not any("nan" in sentence for sentence in found.summary)


@pytest.mark.slow
def test_ten_thousand_cells_have_a_page_soon(tmp_path: Path) -> None:
    record = grid_record(budgets=np.geomspace(24e3, 2.4e6, 105).round().tolist())
    folder = write_grid(tmp_path / "grid", record)
    started = time.process_time()
    out = write_study_page(folder)
    assert time.process_time() - started < 20  # 7 to 10 on an idle machine
    assert out.stat().st_size < 2_000_000
    assert len(rows_of(folder / "study_figures" / "cells.csv")) == len(record.rows) > 10_000
