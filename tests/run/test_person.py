"""Whole runs of person search: every term trains, resumes with the same bits, and is measured by identity."""

from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import QuietWatch, tiny_model_settings
from people import write_people
from pocketclip.asked import open_model
from pocketclip.errors import UserError
from pocketclip.recipe import Recipe
from pocketclip.records import read_records
from pocketclip.run.train import train
from pocketclip.train.metrics import read_metrics
from taught import run_and_resume

RATES = {"heads": 0.002, "image_encoder": 0.001, "text_encoder": 0.001}
MASKED = {"kind": "masked_language", "num_layers": 1, "width": 16, "num_heads": 2}
ALL = [{"kind": kind} for kind in ("contrastive", "multi_positive", "sdm", "identity")]


def recipe(folder: Path, terms: list[dict[str, Any]], **changes: Any) -> Recipe:
    trained = write_people(folder / "train.tar", [f"p{number // 4}" for number in range(24)])
    val = write_people(folder / "val.tar", [f"q{number // 2}" for number in range(8)], seed=1)
    stage = {"num_steps": 6, "batch_size": 8, "learning_rate": RATES, "num_workers": 0, "checkpoint_every": 2}
    settings = {
        "data": {"train": f"webdataset:{trained}", "val": f"webdataset:{val}"},
        "model": tiny_model_settings(),
        "objective": {"kind": "person", "terms": terms},
        "train": {**stage, "log_every": 1, "evaluate_every": None, **changes.pop("train", {})},
    }
    return Recipe.parse({**settings, **changes}, place="test")


def run(folder: Path, recipe: Recipe) -> Any:
    return train(recipe, folder / "run", name="test", watch=QuietWatch())


@pytest.mark.slow
@pytest.mark.parametrize("terms", [ALL, [*ALL, MASKED]], ids=["features", "words"])
def test_every_term_trains_and_the_model_is_measured_by_identity(tmp_path: Path, terms: list[dict[str, Any]]) -> None:
    outcome = run(tmp_path, recipe(tmp_path, terms, train={"identity_batches": {"views": 2}}))
    rows = [row for row in read_metrics(tmp_path / "run") if "loss" in row]
    assert {term["kind"] for term in terms} <= rows[0].keys()
    assert all(torch.isfinite(torch.tensor(row["loss"])) for row in rows)
    result = outcome.splits["val"].result
    assert (result.task, result.metrics["num_identities"]) == ("person_retrieval", 4)
    assert [own.task for own in read_records(tmp_path / "run") if own.kind == "evaluation"] == ["person_retrieval"]
    names = open_model(str(tmp_path / "run")).model.state_dict()  # type: ignore[attr-defined]
    assert not [name for name in names if "learned" in name or "guess" in name]


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [1, 3, 5])
def test_a_killed_run_goes_on_with_the_same_bits(tmp_path: Path, killed_at: int) -> None:
    own = recipe(tmp_path, [*ALL, MASKED], train={"identity_batches": {"views": 2}, "captions_per_image": 2})
    whole = run_and_resume(own, tmp_path / "whole", None)
    for name, value in run_and_resume(own, tmp_path / "killed", killed_at).items():
        assert torch.equal(value, whole[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [2, 7])
def test_heads_first_hands_the_classifier_on_to_the_towers(tmp_path: Path, killed_at: int) -> None:
    heads = {"num_steps": 6, "batch_size": 8, "learning_rate": {"heads": 0.01}, "cache": {}, "checkpoint_every": 2}
    heads["identity_batches"] = {"views": 2}
    own = recipe(tmp_path, ALL, heads_first=heads, train={"num_steps": 7, "checkpoint_every": 100})
    whole = run_and_resume(own, tmp_path / "whole", None)
    for name, value in run_and_resume(own, tmp_path / "killed", killed_at).items():
        assert torch.equal(value, whole[name]), name


@pytest.mark.slow
def test_a_student_learns_from_a_larger_teacher_too(tmp_path: Path) -> None:
    run(tmp_path, recipe(tmp_path, [{"kind": "contrastive"}]))
    teacher = [{"kind": "bundle", "path": str(tmp_path / "run" / "bundle")}]
    taught = recipe(
        tmp_path, [{"kind": "sdm"}, {"kind": "affinity"}, {"kind": "feature", "weight": 20}], teachers=teacher
    )
    train(taught, tmp_path / "student", name="student", watch=QuietWatch())
    rows = [row for row in read_metrics(tmp_path / "student") if "loss" in row]
    assert {"sdm", "affinity", "feature"} <= rows[0].keys()


def test_the_best_epoch_is_chosen_on_val_and_the_record_says_so(tmp_path: Path) -> None:
    chosen = {"evaluate_every": 1, "keep": "best", "keep_metric": "text_to_image_recall@1"}
    outcome = run(tmp_path, recipe(tmp_path, [{"kind": "sdm"}], train=chosen))
    assert any("chosen on val" in note and "text_to_image_recall@1" in note for note in outcome.record.notes)


def test_people_that_are_trained_on_are_noted_where_they_are_measured(tmp_path: Path) -> None:
    own = recipe(tmp_path, [{"kind": "sdm"}])
    write_people(tmp_path / "val.tar", ["p1", "p1", "new", "new"], seed=1)
    outcome = run(tmp_path, own)
    assert any(
        "1 of 2 identities have the name of one in data.train (such as p1)" in note
        for note in outcome.splits["val"].result.notes
    )


@pytest.mark.parametrize(
    ("people", "message"),
    [
        (["p0"] * 24, r"all of its 24 pictures show one identity \(p0\)"),
        ([None] * 24, "no image has an identity"),
        ([None, *["p0", "p1"] * 11, None], r"2 of 24 pictures have no identity \(the first: .*000"),
        (["p0", "p1"] * 12, r"a batch of 8 with 2 views shows 4 identities, and there are 2; .* at most 4"),
    ],
)
def test_data_that_teach_nobody_apart_are_refused(tmp_path: Path, people: list[str | None], message: str) -> None:
    own = recipe(tmp_path, [{"kind": "sdm"}], train={"identity_batches": {"views": 2}})
    write_people(tmp_path / "train.tar", people)
    with pytest.raises(UserError, match=message):
        run(tmp_path, own)
