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


@pytest.fixture
def towers(tmp_path: Path) -> Path:
    """A study of one tiny tower."""
    path = tmp_path / "mine.study.yaml"
    settings = {"seconds": 0.01, "training_steps": 1, "training_batch_size": 2}
    path.write_text(json.dumps({"towers": {"a": {"name": "test_resnet", "image_size": 32}}, **settings}))
    return path


def test_a_study_of_towers_is_told_by_its_keys(
    pocketclip: Command, towers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pocketclip.study.towers import runner

    monkeypatch.setattr(runner, "in_a_process", lambda work, log, tell: (work(tell=tell), None))
    out = tmp_path / "out"
    ended = pocketclip("study", towers, "--out", out, "--json")
    (row,) = (json.loads(line) for line in ended.out.splitlines())
    assert (ended.code, row["name"]) == (0, "a")
    assert row["cost"]["latency_ms_batch_1"]["median"] > 0
    assert f"Record: {out}/study.json" in ended.err
    again = pocketclip("study", towers, "--out", out, "--resume", "--format", "table", "-q")
    assert (again.code, again.err) == (0, "")
    assert "batch 32, ms" in again.out
    page = pocketclip("report", out, "--out", tmp_path / "x.html")
    assert page.out.strip() == str(tmp_path / "x.html")
    assert "a is the fastest of 1 towers" in (tmp_path / "x.html").read_text()


def test_towers_without_costs_are_an_error_after_all(
    pocketclip: Command, towers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pocketclip.study.towers import runner

    monkeypatch.setattr(runner, "in_a_process", lambda work, log, tell: (None, "its process was ended by SIGSEGV"))
    ended = pocketclip("study", towers, "--out", tmp_path / "out")
    assert ended.code == 1
    told = "Error: 1 of 1 towers failed; --resume tries them again.\na: its process was ended by SIGSEGV\n"
    assert ended.err.endswith(told)


@pytest.mark.parametrize("option", [("--jobs", "2"), ("--price", "1"), ("--device", "cuda")], ids=lambda own: own[0])
def test_options_without_effect_on_towers_are_refused(
    pocketclip: Command, towers: Path, option: tuple[str, str], tmp_path: Path
) -> None:
    ended = pocketclip("study", towers, "--out", tmp_path / "out", *option)
    assert (ended.code, (tmp_path / "out").exists()) == (1, False)
    assert ended.err.startswith(f"Error: {option[0]}: has no effect on a study of towers")


def test_a_studys_name_is_known_where_recipes_are_listed_and_taken(pocketclip: Command) -> None:
    lines = pocketclip("list", "recipes").out.splitlines()
    (ours,) = [line for line in lines if line.startswith("study/small_encoders ")]
    assert ours.endswith("(pocketclip study)")
    ended = pocketclip("train", "study/small_encoders")
    told = "study/small_encoders: is a study, not one recipe; use: pocketclip study study/small_encoders"
    assert (ended.code, ended.err) == (1, f"Error: {told}\n")
