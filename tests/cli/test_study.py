"""`pocketclip study` and `pocketclip plan` as they are typed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import tiny_recipe_settings
from example_pages import make_run, make_study, row

Command = Callable[..., Any]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A study of two rows and one seed."""
    (tmp_path / "tiny.yaml").write_text(json.dumps(tiny_recipe_settings(num_steps=2)))
    path = tmp_path / "tiny.study.yaml"
    rows = [{"name": "plain"}, {"name": "broken", "set": {"train.learning_rate.heads": 1e30}}]
    path.write_text(json.dumps({"base": "tiny.yaml", "rows": rows, "seeds": [0]}))
    return path


def test_a_study_prints_a_line_a_row_and_fails_when_a_run_does(
    pocketclip: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pocketclip.errors import UserError
    from pocketclip.study import runs

    train = runs.train

    def failing(*args: Any, **options: Any) -> Any:
        if options["name"].startswith("broken"):
            raise UserError("the loss is not finite")
        return train(*args, **options)

    monkeypatch.setattr(runs, "train", failing)
    ended = pocketclip("study", file, "--out", tmp_path / "out", "--price", "1", "--json", "--device", "cpu")
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert [row["name"] for row in rows] == ["plain", "broken"]
    assert rows[0]["dollars"] > 0
    assert f"Page: {tmp_path}/out/study.html" in ended.err
    assert ended.code == 1
    assert "Error: 1 of 2 runs failed; --resume tries them again.\nbroken, seed 0: the loss is not finite" in ended.err


def test_report_of_a_study_is_its_page(pocketclip: Command, tmp_path: Path) -> None:
    study = make_study(tmp_path / "out", row("plain", 0.2), row("better", 0.3, gain=0.1))
    ended = pocketclip("report", study)
    assert (ended.code, ended.out.strip()) == (0, str(study / "study.html"))
    assert "with 'better', most of 2 rows" in Path(ended.out.strip()).read_text().replace("&#39;", "'")
    elsewhere = tmp_path / "new" / "x.html"
    assert pocketclip("report", study, "--out", elsewhere).out.strip() == str(elsewhere)
    run = make_run(tmp_path / "run")
    both = pocketclip("report", run, study)
    assert both.code == 1
    assert both.err == f"Error: {study}: is a study, which has a page of its own: pocketclip report {study}\n"
    assert pocketclip("report", run, "--out", tmp_path / "newer" / "x.html").code == 0


def test_bad_studies_end_in_one_line(pocketclip: Command, file: Path) -> None:
    ended = pocketclip("study", "nothing/here")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("Error: Unknown study 'nothing/here'")
    ended = pocketclip("train", file)
    assert "use `pocketclip study`" in ended.err


def test_a_plan_is_printed_before_anything_is_spent(pocketclip: Command, file: Path) -> None:
    recipe = file.parent / "tiny.yaml"
    ended = pocketclip("plan", recipe, "--hardware", "h100", "--throughput", "8", "--json")
    values = json.loads(ended.out)
    assert ended.code == 0
    assert (values["samples_seen"], values["hours"] * 3600) == (8, pytest.approx(1.0))
    assert values["dollars_per_hour"] == 2.69
    assert "Unknown hardware 'gpu'" in pocketclip("plan", recipe, "--hardware", "gpu").err


def test_machines_and_studies_are_listed(pocketclip: Command) -> None:
    listed = pocketclip("list", "hardware").out
    assert "rtx4090x2      two NVIDIA RTX 4090 in one machine; $1.38 an hour" in listed
    assert pocketclip("list", "studies").code == 0
