"""Runs of S-SMKE: a shared encoder, a teacher of images, a queue of its vectors."""

from pathlib import Path
from typing import Any

import pytest
import torch

import teachers as tiny
from conftest import QuietWatch, tiny_recipe_settings
from pocketclip.errors import UserError
from pocketclip.losses.queue import NOBODY
from pocketclip.recipe import Recipe
from pocketclip.run.setup import prepare_folder
from pocketclip.run.teaching import open_teaching
from pocketclip.run.train import train
from pocketclip.train.metrics import read_metrics
from taught import run_and_resume

TEACHER = {"kind": "timm", "name": "test_resnet", "pretrained": "none", "feature": "average", "image_size": 32}
QUEUE = {"kind": "contrastive", "queue_size": 10}


def make(distill: dict[str, Any] | None = None, teachers: list[Any] | None = None, **train: Any) -> Recipe:
    settings: Any = tiny_recipe_settings(**{"log_every": 1, "precision": "float32", **train})
    model = {**settings["model"], "image_head": {"kind": "linear"}, "text_head": {"kind": "linear"}, "embed_dim": 16}
    for part in ("image_encoder", "text_encoder"):
        model[part] = {key: value for key, value in model[part].items() if key not in ("pooling", "joined_layers")}
    model["shared_encoder"] = {"kind": "transformer", "num_heads": 2, "image_readout": "mean"}
    objective = {"kind": "s_smke", "distill": QUEUE if distill is None else distill}
    if teachers is None:
        teachers = [TEACHER]
    return Recipe.parse({**settings, "model": model, "objective": objective, "teachers": teachers}, place="recipe.yaml")


def losses(folder: Path) -> list[dict[str, float]]:
    return [row for row in read_metrics(folder) if "loss" in row]


@pytest.mark.slow
def test_a_student_learns_from_a_teacher_of_images(tmp_path: Path) -> None:
    rates = {"heads": 0.01, "image_encoder": 0.005, "text_encoder": 0.005}
    recipe = make({"kind": "mse"}, num_steps=24, learning_rate=rates)
    outcome = train(recipe, tmp_path / "run", name="test", watch=QuietWatch())
    rows = losses(tmp_path / "run")
    assert {"clip_hidden", "clip_output", "distill_image", "distill_text"} <= rows[0].keys()
    first, last = (sum(row["loss"] for row in part) for part in (rows[:5], rows[-5:]))
    assert last < 0.9 * first, (first, last)
    assert {"val_clip"} <= outcome.record.metrics.keys()
    weights = (tmp_path / "run" / "bundle" / "model.safetensors").read_bytes()
    assert b"log_scales" not in weights, "what an objective learns is not shipped"


@pytest.mark.slow
@pytest.mark.parametrize("chunk_size", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_goes_on_with_the_same_bits_and_the_same_queue(tmp_path: Path, chunk_size: int | None) -> None:
    recipe = make(num_steps=7, checkpoint_every=2, chunk_size=chunk_size, batch_norm="frozen")
    weights = [run_and_resume(recipe, tmp_path / str(killed), killed_at=killed) for killed in (None, 5)]
    for name, expected in weights[0].items():
        assert torch.equal(expected, weights[1][name]), name
    whole, resumed = (losses(tmp_path / str(killed)) for killed in (None, 5))
    assert [row["distill_text"] for row in whole] == [row["distill_text"] for row in resumed]


def test_a_checkpoint_holds_the_queue(tmp_path: Path) -> None:
    class Stopped(Exception):  # noqa: N818
        pass

    class Stopping(QuietWatch):
        def step(self, name: str, done: int, total: int, images_per_second: float, metrics: Any) -> None:
            if done == 3:
                raise Stopped

    with pytest.raises(Stopped):
        train(make(num_steps=4, checkpoint_every=2), tmp_path / "run", name="test", watch=Stopping())
    (path,) = (tmp_path / "run" / "checkpoints" / "train").glob("step-*.pt")
    state = torch.load(path, weights_only=True)["objective"]
    assert int(state["queue.position"]) == int((state["queue.image_ids"] != NOBODY).sum()) == 8
    assert state["queue.rows"][:8].norm(dim=1).tolist() == pytest.approx([1.0] * 8)


def test_a_queue_of_another_size_does_not_go_on(tmp_path: Path) -> None:
    prepare_folder(make(), tmp_path / "run", resume=False)
    other = make({**QUEUE, "queue_size": 12})
    message = r"another recipe\. First difference: 'queue_size: 10' there, 'queue_size: 12' now"
    with pytest.raises(UserError, match=message):
        train(other, tmp_path / "run", name="test", watch=QuietWatch(), resume=True)


def test_only_the_image_side_of_a_bundle_is_asked(tmp_path: Path) -> None:
    bundle = tiny.write_bundle_teacher(tmp_path / "teacher")
    recipe = make(teachers=[{"kind": "bundle", "path": str(bundle)}], num_steps=2)
    teaching = open_teaching(recipe, recipe.data.train.open(), torch.device("cpu"))
    assert [reader.encode for reader in teaching.live.readers] == [None]
    train(recipe, tmp_path / "run", name="test", watch=QuietWatch())
    assert len(losses(tmp_path / "run")) == 2


def test_several_captions_an_image(tmp_path: Path) -> None:
    train(make(num_steps=2, captions_per_image=2), tmp_path / "run", name="test", watch=QuietWatch())
    assert len(losses(tmp_path / "run")) == 2


def test_the_ancestor_with_classes_and_a_shared_perceptron(tmp_path: Path) -> None:
    recipe = make({"kind": "logits"}, [{**TEACHER, "feature": "logits"}], num_steps=2)
    objective = {**recipe.objective.model_dump(), "contrastive": ["hidden", "output", "teacher_head"]}
    model = {**recipe.model.model_dump(), "shared_encoder": {"kind": "mlp", "hidden_widths": [20]}}
    model["shared_encoder"]["image_readout"] = "mean"
    recipe = Recipe.parse({**recipe.model_dump(), "objective": objective, "model": model}, place="test")
    train(recipe, tmp_path / "run", name="test", watch=QuietWatch())
    assert {"clip_teacher_head", "distill_image"} <= losses(tmp_path / "run")[0].keys()


CLIP = {"kind": "bundle", "path": "nowhere"}


@pytest.mark.parametrize(
    ("distill", "teachers", "message"),
    [
        ({**QUEUE, "queue_size": 3}, None, "queue_size: 3 is less than train.batch_size, 4"),
        (QUEUE, [], "objective.kind s_smke learns from teachers"),
        ({"kind": "none"}, None, "no effect with objective.kind s_smke with distill.kind none"),
        ({"kind": "logits"}, None, "logits compares classes"),
        ({"kind": "logits"}, [CLIP], "logits compares classes"),
    ],
)
def test_what_does_not_fit_is_refused_where_the_recipe_is_read(
    distill: dict[str, Any], teachers: list[Any] | None, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make(distill, teachers)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["reinforced", "distillation"])
def test_methods_that_ask_about_captions_refuse_a_teacher_of_images(kind: str) -> None:
    settings = tiny_recipe_settings()
    objective = {"kind": kind, **({"terms": [{"kind": "feature"}]} if kind == "distillation" else {})}
    with pytest.raises(UserError, match=f"timm test_resnet knows images only, and objective.kind {kind} asks"):
        Recipe.parse({**settings, "objective": objective, "teachers": [TEACHER]}, place="recipe.yaml")


def test_two_towers_have_no_hidden_layer() -> None:
    settings: Any = tiny_recipe_settings()
    objective = {"kind": "s_smke", "distill": {"kind": "none"}}
    with pytest.raises(UserError, match=r"hidden is a layer of model\.shared_encoder"):
        Recipe.parse({**settings, "objective": objective}, place="recipe.yaml")
    Recipe.parse({**settings, "objective": {**objective, "contrastive": ["output"]}}, place="recipe.yaml")
