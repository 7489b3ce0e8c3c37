"""Probes from the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from conftest import encode_picture
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data import hold_out, open_source
from pocketclip.data.source import Source
from pocketclip.data.sources.sugarcrepe import PARTS
from pocketclip.embedder import JudgePairs
from pocketclip.evaluate.statistics import Units, bootstrap_ratios
from pocketclip.evaluate.task import Answers
from pocketclip.evaluate.task_data import HELD_OUT_SHARE
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


def test_what_was_measured_before_a_task_failed_is_printed_and_kept(
    pocketclip: Run, bundle: Path, tmp_path: Path
) -> None:
    tasks = ("--task", "retrieval", "--task", "linear_probe")
    ended = pocketclip(
        "evaluate", bundle, *tasks, "--data", "scenes:6,image_size=32", "--keep-items", tmp_path / "items"
    )
    assert ended.code == 1
    assert "no image has a class" in ended.err
    assert [json.loads(line)["task"] for line in ended.out.splitlines()] == ["retrieval"]
    assert len(list((tmp_path / "items").glob("*.npz"))) == 1


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


def test_a_probe_is_kept_as_a_head_that_classify_loads(pocketclip: Run, bundle: Path, tmp_path: Path) -> None:
    from pocketclip import load
    from pocketclip.head import Head

    data, file = "scenes:60,classes=colour,image_size=32", tmp_path / "new" / "head.safetensors"
    asked = ("evaluate", bundle, "--task", "linear_probe", "--data", data, "--set", "sweep=clip", "--keep-head", file)
    ended = pocketclip(*asked)
    assert ended.code == 0, ended.err
    assert f"head of the embedding: {file}" in ended.err
    values, head, source = json.loads(ended.out), Head.load(file), open_source(data)
    assert head.measured is not None
    assert head.measured.to_json() == values
    assert values["settings"]["sweep"] == "clip"
    assert {"lambda", "lambda_embedding"} <= set(values)
    _, test = hold_out(source, HELD_OUT_SHARE)
    found = load(bundle, device="cpu").classify([test[number].image for number in range(12)], head=file)
    assert all(set(own) == set(head.class_names) for own in found)
    names = source.class_names
    assert names is not None
    labels = [names[label] for number in range(12) if (label := test.label(number)) is not None]
    right = [next(iter(own)) == label for own, label in zip(found, labels, strict=True)]
    assert np.mean(right) == pytest.approx(values["top1_accuracy_embedding"]["value"], abs=0.1)
    assert pocketclip(*asked).code == 0  # over its own file


def test_a_head_is_kept_of_a_linear_probe_and_over_nothing_else(pocketclip: Run, bundle: Path) -> None:
    data, weights = ("--data", "scenes:20,classes=size,image_size=32"), bundle / "model.safetensors"
    before = weights.read_bytes()
    for words, reason in (
        (
            ("--task", "knn", "--keep-head", "x.safetensors"),
            "--keep-head: has no effect on knn; it is for linear_probe.",
        ),
        (("--task", "linear_probe", "--keep-head", weights), "model.safetensors: is there, and is no head"),
        (("--task", "linear_probe", "--set", "sweep=clap"), "sweep: did you mean 'clip'?"),
    ):
        ended = pocketclip("evaluate", bundle, *data, *words)
        assert ended.code == 1
        assert reason in ended.err
        assert ended.err.strip().count("\n") == 0
    assert weights.read_bytes() == before


def test_sugarcrepe_is_eight_lines_and_one_table(pocketclip: Run, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.jpg").write_bytes(encode_picture(0))
    for part in PARTS:
        entry = {"filename": "0.jpg", "caption": "picture 0 caption 1", "negative_caption": f"{part} picture"}
        (tmp_path / f"{part}.json").write_text(json.dumps({"7": entry}))
    asked = ("evaluate", bundle, "--task", "sugarcrepe", "--data", f"sugarcrepe:{tmp_path},{tmp_path / 'images'}")
    lines = [json.loads(line) for line in pocketclip(*asked, "--json").out.splitlines()]
    assert [values["split"] for values in lines] == [*PARTS, "all"]
    assert "mean_accuracy" in lines[-1]
    table = pocketclip(*asked, "--format", "table").out
    assert table.count("SugarCrepe on") == 1
    assert all(f"{part} accuracy".replace("_", " ") in table for part in PARTS)
