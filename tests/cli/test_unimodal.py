"""Probes from the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pocketclip.asked.bundle import PretrainedModel

Run = Callable[..., Any]


@pytest.fixture
def bundle(tiny_pretrained: PretrainedModel, tmp_path: Path) -> Path:
    return tiny_pretrained.save_pretrained(tmp_path / "bundle", card="")


def test_a_line_a_task_with_a_part_held_out(pocketclip: Run, bundle: Path, tmp_path: Path) -> None:
    ended = pocketclip("evaluate", bundle, "--task", "linear_probe", "--data", "scenes:60,classes=size,image_size=32")
    assert ended.code == 0
    values = json.loads(ended.out)
    assert (values["task"], values["num_images"], values["num_training_examples"]) == ("linear_probe", 12, 48)
    assert values["dataset"].endswith("(held out)")
    table = tmp_path / "x.csv"
    table.write_text("text,label\n" + "a red circle,red\na blue star,blue\n" * 10)
    ended = pocketclip("evaluate", bundle, "--task", "text_probe", "--data", table, "--train-data", f"csv:{table}")
    assert ended.code == 0
    assert json.loads(ended.out)["top1_accuracy"]["value"] == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--task", "linear_probe", "--data", "scenes:20"), "no image has a class"),
        (("--data", "scenes:20", "--train-data", "scenes:20"), "--train-data: has no effect on retrieval"),
        (("--task", "linear_probe", "--data", "scenes:9", "--set", "a=1"), "--set: has no effect on linear_probe"),
        (("--task", "fine_tuning", "--data", "scenes:9", "--set", "num_epoch=1"), "Did you mean 'num_epochs'?"),
        (("--task", "text_probe", "--data", "folder:x"), "--data: should be csv:FILE or jsonl:FILE"),
    ],
)
def test_what_cannot_be_measured_is_one_clear_line(
    pocketclip: Run, bundle: Path, arguments: tuple[str, ...], reason: str
) -> None:
    ended = pocketclip("evaluate", bundle, *arguments)
    assert ended.code == 1
    assert reason in ended.err
    assert ended.err.strip().count("\n") == 0
    assert ended.out == ""


def test_the_table_has_a_row_a_measurement() -> None:
    from pocketclip.records import EvalResult, Interval
    from pocketclip.study.table import unimodal_rows, unimodal_title

    half = Interval(value=0.5, low=0.4, high=0.6)
    metrics: dict[str, Interval | float] = {"top1_accuracy": half, "num_classes": 3.0, "num_training_examples": 1000.0}
    result = EvalResult(task="linear_probe", dataset="x", split="all", num_images=1200, num_captions=0, metrics=metrics)
    assert unimodal_title(result).startswith("Linear probe on 1,200 images of 3 classes, learned from 1,000")
    assert unimodal_rows(result) == [["the tower, trained", "50.0 [40.0, 60.0]"]]
