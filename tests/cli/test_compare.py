"""`pocketclip compare`, from models and from kept items; and what `evaluate` writes beside its results."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pocketclip.asked.bundle import PretrainedModel

Run = Callable[..., Any]
DATA = "scenes:40,classes=size,image_size=32"


@pytest.fixture
def models(tiny_pretrained: PretrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two bundles `a` and `b`, and two runs of `c`, which scores as `a` does, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for place in ("a", "c/seed-0/bundle", "c/seed-1/bundle"):
        tiny_pretrained.save_pretrained(tmp_path / place, card="")
    torch.manual_seed(0)
    weights = {name: value.clone() for name, value in tiny_pretrained.model.state_dict().items()}
    for value in tiny_pretrained.model.parameters():
        value.data.add_(0.05 * torch.randn_like(value))
    tiny_pretrained.save_pretrained(tmp_path / "b", card="")
    tiny_pretrained.model.load_state_dict(weights)
    return tmp_path


def test_kept_items_say_the_same_as_measuring_anew(pocketclip: Run, models: Path) -> None:
    tasks = ("--task", "retrieval", "--task", "zero_shot")
    anew = pocketclip("compare", "a", "b", *tasks, "--data", DATA)
    assert anew.code == 0, anew.err
    for model in "ab":
        assert pocketclip("evaluate", model, *tasks, "--data", DATA, "--keep-items", f"items/{model}").code == 0
    kept = pocketclip("compare", "--items", "items/a", "items/b")
    found = [[json.loads(line) for line in ended.out.splitlines()] for ended in (anew, kept)]
    assert [own["task"] for own in found[0]] == ["retrieval", "zero_shot"]
    for ours, theirs in zip(*found, strict=True):
        assert ours["metrics"] == theirs["metrics"]
        assert ours["num_units"] == 40
    one = pocketclip("compare", "--items", "items/a", "items/b", "--task", "zero_shot", "--format", "table").out
    assert "A wins / loses / ties" in one
    assert "Rests on: 95 % of resampling the same 40 images" in one


@pytest.mark.parametrize("side", ["c", "c/seed-*"])
def test_a_folder_or_a_pattern_is_several_runs(pocketclip: Run, models: Path, side: str) -> None:
    ended = pocketclip("compare", "a", side, "--task", "zero_shot", "--data", DATA)
    found = json.loads(ended.out)
    assert found["b"]["runs"] == ["c/seed-0", "c/seed-1"]
    assert found["metrics"]["top1_accuracy"]["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert f"a and {side} did alike on every item" in found["verdict"]


def test_other_items_and_missing_words_are_one_line(pocketclip: Run, models: Path) -> None:
    for model, data in (("a", DATA), ("b", "scenes:30,classes=size,image_size=32")):
        pocketclip("evaluate", model, "--task", "zero_shot", "--data", data, "--keep-items", f"items/{model}")
    cases = {
        ("a", "b"): "--data: what to measure both on is missing",
        ("--items", "items/a", "items/b"): "were measured on different items: 40 images",
        ("--items", "items/a", "nowhere"): "nowhere: no such file or folder of kept items",
        ("--items", "items/a", "a"): "a: no kept items here; pocketclip evaluate MODEL --keep-items a",
        ("--items", "items/a", "items/b", "--data", DATA): "--data: has no effect with --items",
        ("--items", "items/a", "items/b", "--task", "knn"): "no kept items of knn in common",
        ("a", "runs/x-*", "--data", DATA): "runs/x-*: fits no file or folder here",
        ("a", "nope", "--data", DATA): "nope: no such bundle or run folder",
    }
    for words, reason in cases.items():
        ended = pocketclip("compare", *words)
        assert ended.code == 1, words
        assert reason in ended.err
        assert ended.err.strip().count("\n") == 0
        assert ended.out == ""


def test_csv_has_a_row_a_metric(pocketclip: Run, models: Path) -> None:
    asked = ("evaluate", "a", "--task", "retrieval", "--task", "zero_shot", "--data", DATA)
    rows = list(csv.DictReader(pocketclip(*asked, "--format", "csv").out.splitlines()))
    records = [json.loads(line) for line in pocketclip(*asked, "--json").out.splitlines()]
    assert list(rows[0]) == ["model", "task", "dataset", "split", "metric", "value", "low", "high", "n"]
    assert {row["task"] for row in rows} == {"retrieval", "zero_shot"}
    for row in rows:
        record = next(own for own in records if own["task"] == row["task"])
        score = record[row["metric"]]
        values = {"value": score} if isinstance(score, float) else score
        assert {key: float(row[key]) for key in values} == values
        assert row["model"] == "a"
        assert int(row["n"]) == (record["num_captions"] if row["metric"].startswith("text_to") else 40)


def test_clip_benchmark_finds_its_own_files(pocketclip: Run, models: Path) -> None:
    asked = ("--task", "retrieval", "--task", "zero_shot", "--task", "linear_probe", "--task", "text_probe")
    ended = pocketclip("evaluate", "a", *asked[:6], "--data", DATA, "--clip-benchmark", "theirs")
    records = {values["task"]: values for values in map(json.loads, ended.out.splitlines())}
    files = {values["task"]: values for values in (json.loads(own.read_text()) for own in Path("theirs").iterdir())}
    assert set(files) == {"zeroshot_retrieval", "zeroshot_classification", "linear_probe"}
    for values in files.values():
        assert set(values) == {"dataset", "model", "pretrained", "task", "metrics", "language"}
        assert values["model"] == "a"
    retrieval, zero_shot = files["zeroshot_retrieval"]["metrics"], files["zeroshot_classification"]["metrics"]
    assert retrieval["image_retrieval_recall@5"] == records["retrieval"]["text_to_image_recall@5"]["value"]
    assert retrieval["text_retrieval_recall@1"] == records["retrieval"]["image_to_text_recall@1"]["value"]
    assert zero_shot["acc1"] == records["zero_shot"]["top1_accuracy"]["value"]
    assert zero_shot["mean_per_class_recall"] == records["zero_shot"]["mean_class_accuracy"]["value"]
    asked = ("--task", "zero_shot", "--data", DATA, "--set", "templates=seven", "--clip-benchmark", "theirs")
    assert pocketclip("evaluate", "a", *asked).code == 0
    assert len(list(Path("theirs").iterdir())) == 4  # beside those of other templates


@pytest.mark.slow
def test_a_board_of_what_was_printed(pocketclip: Run, models: Path) -> None:
    results = models / "results"
    results.mkdir()
    for model in "ab":
        ended = pocketclip("evaluate", model, "--task", "zero_shot", "--data", DATA, "--json")
        (results / f"{model}.json").write_text(ended.out)
        (results / f"{model}_cost.json").write_text(pocketclip("cost", model, "--seconds", "0.01", "--json").out)
    ended = pocketclip("board", "results")
    assert ended.code == 0, ended.err
    assert ended.out.split() == ["results/board.html", "results/board.csv"]
    (first, second) = csv.DictReader(Path("results/board.csv").read_text().splitlines())
    assert {first["model"], second["model"]} == {"a", "b"}
    assert float(first["parameters"]) > 0
    again = pocketclip("board", "nowhere")
    assert (again.code, again.err) == (1, "Error: nowhere: no such folder or file of results.\n")


def test_items_of_other_settings_are_kept_apart_and_not_compared(pocketclip: Run, models: Path) -> None:
    asked = ("--task", "zero_shot", "--data", DATA, "--keep-items")
    for model, changes in (("a", ()), ("b", ("--set", "templates=seven"))):
        ended = pocketclip("evaluate", model, *asked, f"items/{model}", *changes, "--json")
        assert json.loads(ended.out)["settings"]["templates"] == ("seven" if changes else "own")
    ended = pocketclip("compare", "--items", "items/a", "items/b")
    assert ended.code == 1
    assert "zero_shot with other settings: templates is own and seven; measure both with the same --set" in ended.err
    assert ended.err.strip().count("\n") == 0
    assert pocketclip("evaluate", "b", *asked, "items/b").code == 0  # beside the other
    assert len(list((models / "items" / "b").glob("*.npz"))) == 2
    assert pocketclip("evaluate", "a", *asked, "items/a", "--set", "templates=eighty").code == 0
    ended = pocketclip("compare", "--items", "items/a", "items/b")  # one question both were asked, and one each alone
    assert (ended.code, len(ended.out.splitlines())) == (0, 1)
    for model, own in (("a", "own"), ("b", "right")):
        asked = ("evaluate", model, "--data", DATA, "--same-captions", own, "--keep-items", f"texts/{model}")
        assert pocketclip(*asked).code == 0
    ended = pocketclip("compare", "--items", "texts/a", "texts/b")
    assert "retrieval with other settings: same_captions is own and right; measure" in ended.err
    ended = pocketclip("compare", "--items", "items/a", "items/b")
    assert (ended.code, json.loads(ended.out)["task"]) == (0, "zero_shot")
