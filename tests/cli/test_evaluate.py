"""Probes from the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data.source import Source
from pocketclip.embedder import JudgePairs
from pocketclip.evaluate.statistics import Units, bootstrap_ratios
from pocketclip.evaluate.task import Answers
from pocketclip.evaluate.tasks import EmbeddingTask, Retrieval, task_of
from pocketclip.features.encode import Embeddings
from pocketclip.records import EvalResult, Interval

Run = Callable[..., Any]
RECORD = {
    "dataset": "x", "split": "val", "num_images": 6, "num_captions": 12,
    "metrics": {"captions": {"value": 0.5, "low": 0.4, "high": 0.6}},
}  # fmt: skip


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
    half = Interval(value=0.5, low=0.4, high=0.6)
    metrics: dict[str, Interval | float] = {"top1_accuracy": half, "num_classes": 3.0, "num_training_examples": 1000.0}
    result = EvalResult(task="linear_probe", dataset="x", split="all", num_images=1200, num_captions=0, metrics=metrics)
    assert task_of(result).title(result).startswith("Linear probe on 1,200 images of 3 classes, learned from 1,000")
    assert task_of(result).rows(result) == [["the tower, trained", "50.0 [40.0, 60.0]"]]


class CaptionCount(EmbeddingTask):
    """How many captions an image has."""

    kind: Literal["caption_count"] = "caption_count"
    needs = frozenset({"captions"})
    heading = "Captions"
    least: int = 1
    """Fewer count as none."""

    def result(
        self, embeddings: Embeddings, source: Source, judge: JudgePairs | None = None, *, split: str = "all"
    ) -> EvalResult:
        (units,) = self.units(self.answers(embeddings, source))
        counts = {"num_images": len(embeddings.images), "num_captions": len(embeddings.texts)}
        return EvalResult(task=self.kind, dataset=source.name, split=split, metrics=bootstrap_ratios([units]), **counts)

    def answers(self, embeddings: Embeddings, source: Source, judge: JudgePairs | None = None) -> Answers:
        return {"counts": np.bincount(embeddings.text_images, minlength=len(embeddings.images))}

    def units(self, answers: Answers) -> list[Units]:
        counts = answers["counts"]
        return [{"captions": (np.where(counts < self.least, 0.0, counts), np.ones(len(counts)))}]


def test_a_new_task_is_its_class_and_its_place_in_the_union(
    pocketclip: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketclip.evaluate.tasks.Tasks", Retrieval | CaptionCount)
    assert pocketclip("list", "tasks").out.splitlines()[1] == "caption_count    How many captions an image has."
    asked = ("evaluate", bundle, "--data", "scenes:6,image_size=32", "--task", "retrieval", "--task", "caption_count")
    found = [json.loads(line) for line in pocketclip(*asked).out.splitlines()]
    assert [values["task"] for values in found] == ["retrieval", "caption_count"]
    assert found[1]["captions"] == {"value": 2.0, "low": 2.0, "high": 2.0}
    changed = pocketclip(*asked, "--set", "least=3").out.splitlines()
    assert json.loads(changed[1])["captions"]["value"] == 0
    result = EvalResult.parse({**RECORD, "task": "caption_count"}, place="record")
    assert (task_of(result).title(result), task_of(result).rows(result)) == (
        "Captions on val: 6 images, 12 captions; percent [95 % interval]",
        [["captions", "50.0 [40.0, 60.0]"]],
    )
