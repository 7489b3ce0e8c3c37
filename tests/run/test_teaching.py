"""Runs whose student learns from teachers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import QuietReporter, tiny_recipe_settings
from pocketclip.errors import UserError
from pocketclip.recipe import Recipe
from pocketclip.run import train
from pocketclip.train.metrics import read_metrics
from taught import write_reinforced

TERMS = [{"kind": kind} for kind in ("contrastive", "affinity", "feature", "relational", "interactive", "gradient")]
OBJECTIVES = {
    "reinforced": {"kind": "reinforced", "distill_weight": 0.7},
    "distillation": {"kind": "distillation", "terms": TERMS},
}


def stored_recipe(folder: Path, objective: dict[str, Any], **changes: Any) -> Recipe:
    settings = tiny_recipe_settings(**{"synthetic_captions_per_image": 1, **changes})
    data = {**settings["data"], "train": f"reinforced:{folder}"}  # type: ignore[dict-item]
    return Recipe.parse({**settings, "data": data, "objective": objective}, place="test")


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_student_learns_from_stored_teachers(tmp_path: Path, kind: str) -> None:
    rates = {"heads": 0.005, "image_encoder": 0.002, "text_encoder": 0.002}
    settings = {"num_steps": 30, "log_every": 1, "learning_rate": rates, "precision": "float32"}
    recipe = stored_recipe(write_reinforced(tmp_path / "data"), OBJECTIVES[kind], **settings)
    outcome = train(recipe, tmp_path / "run", name="test", reporter=QuietReporter())
    rows = [row for row in read_metrics(tmp_path / "run") if "loss" in row]
    names = ("clip", "affinity") if kind == "reinforced" else [term["kind"] for term in TERMS]
    assert {part for name in names for part in (name, f"{name}_synthetic")} <= rows[0].keys()
    first, last = (sum(row["loss"] for row in part) for part in (rows[:5], rows[-5:]))
    assert last < 0.9 * first, (first, last)
    assert {"val_clip", "val_loss"} & outcome.record.metrics.keys()
    weights = (tmp_path / "run" / "bundle" / "model.safetensors").read_bytes()
    assert b"image_maps" not in weights, "what an objective learns is not shipped"


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_run_with_teachers_goes_on_with_the_same_bits(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_reinforced(tmp_path / "data")
    recipe = stored_recipe(data, OBJECTIVES[kind], num_steps=6, checkpoint_every=2)
    whole = train(recipe, tmp_path / "whole", name="test", reporter=QuietReporter())

    class Killed(Exception):  # noqa: N818
        pass

    class Killing(QuietReporter):
        def step(self, done: int, images_per_second: float, metrics: Any) -> None:
            if done == 5:
                raise Killed

    with pytest.raises(Killed):
        train(recipe, tmp_path / "cut", name="test", reporter=Killing())
    second = train(recipe, tmp_path / "cut", name="test", reporter=QuietReporter(), resume=True)
    for expected, actual in zip(
        whole.model.model.state_dict().values(), second.model.model.state_dict().values(), strict=True
    ):
        assert torch.equal(expected, actual)


def test_plain_training_reads_the_same_shards(tmp_path: Path) -> None:
    data = write_reinforced(tmp_path / "data")
    recipe = stored_recipe(data, {"kind": "contrastive", "loss": {"kind": "multi_positive"}})
    train(recipe, tmp_path / "run", name="test", reporter=QuietReporter())
    assert "multi_positive" in read_metrics(tmp_path / "run")[0]


def test_synthetic_captions_have_to_be_stored(tmp_path: Path) -> None:
    recipe = stored_recipe(write_reinforced(tmp_path / "data", num_synthetic=0), OBJECTIVES["reinforced"])
    with pytest.raises(UserError, match=r"synthetic_captions_per_image: 1, but reinforced:.* holds no synthetic"):
        train(recipe, tmp_path / "run", name="test", reporter=QuietReporter())


def test_a_temperature_for_each_teacher(tmp_path: Path) -> None:
    objective = {"kind": "reinforced", "teacher_scales": [70]}
    recipe = stored_recipe(write_reinforced(tmp_path / "data"), objective)
    with pytest.raises(UserError, match=r"objective\.teacher_scales: 1 value\(s\) for 2 teacher\(s\)"):
        train(recipe, tmp_path / "run", name="test", reporter=QuietReporter())
