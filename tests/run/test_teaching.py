"""Runs whose student learns from teachers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import pocketclip
from conftest import QuietWatch, tiny_recipe_settings
from pocketclip.data.batches import BatchPlan, DrawnCaptions, TrainingBatches, views_of
from pocketclip.data.pictures.augment import AugmentConfig
from pocketclip.errors import UserError
from pocketclip.preprocess import PreprocessConfig
from pocketclip.recipe import Recipe
from pocketclip.run.teaching import open_teaching
from pocketclip.run.train import train
from pocketclip.tokenizer import train_tokenizer
from pocketclip.train.metrics import read_metrics
from processes import run_ranks
from taught import run_and_resume, write_reinforced

TERMS = [{"kind": kind} for kind in ("contrastive", "affinity", "feature", "relational", "interactive", "gradient")]
OBJECTIVES = {
    "reinforced": {"kind": "reinforced", "distill_weight": 0.7},
    "distillation": {"kind": "distillation", "terms": TERMS},
}


def stored_recipe(folder: Path, objective: dict[str, Any], **changes: Any) -> Recipe:
    settings = tiny_recipe_settings(**{"synthetic_captions_per_image": 1, **changes})
    data = {**settings["data"], "train": f"reinforced:{folder}"}  # type: ignore[dict-item]
    return Recipe.parse({**settings, "data": data, "objective": objective}, place="test")


@pytest.mark.slow
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_student_learns_from_stored_teachers(tmp_path: Path, kind: str) -> None:
    rates = {"heads": 0.005, "image_encoder": 0.002, "text_encoder": 0.002}
    settings = {"num_steps": 30, "log_every": 1, "learning_rate": rates, "precision": "float32"}
    recipe = stored_recipe(write_reinforced(tmp_path / "data"), OBJECTIVES[kind], **settings)
    outcome = train(recipe, tmp_path / "run", name="test", watch=QuietWatch())
    rows = [row for row in read_metrics(tmp_path / "run") if "loss" in row]
    names = ("clip", "affinity") if kind == "reinforced" else [term["kind"] for term in TERMS]
    assert {part for name in names for part in (name, f"{name}_synthetic")} <= rows[0].keys()
    first, last = (sum(row["loss"] for row in part) for part in (rows[:5], rows[-5:]))
    assert last < 0.9 * first, (first, last)
    assert {"val_clip", "val_loss"} & outcome.record.metrics.keys()
    weights = (tmp_path / "run" / "bundle" / "model.safetensors").read_bytes()
    assert b"image_maps" not in weights, "what an objective learns is not shipped"


@pytest.mark.slow
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_run_with_teachers_goes_on_with_the_same_bits(tmp_path: Path, kind: str) -> None:
    data = write_reinforced(tmp_path / "data")
    recipe = stored_recipe(data, OBJECTIVES[kind], num_steps=6, checkpoint_every=2)
    weights = [run_and_resume(recipe, tmp_path / str(killed), killed_at=killed) for killed in (None, 5)]
    for expected, actual in zip(weights[0].values(), weights[1].values(), strict=True):
        assert torch.equal(expected, actual)


WITHOUT_IMAGE_TOWER = {"learning_rate": {"heads": 0.001, "text_encoder": 0.001}, "precision": "float32"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["contrastive", pytest.param("distillation", marks=pytest.mark.slow)])
def test_stored_views_from_the_cache_equal_running_the_frozen_image_tower(tmp_path: Path, kind: str) -> None:
    objective = OBJECTIVES.get(kind, {"kind": "contrastive", "loss": {"kind": "multi_positive"}})
    data = write_reinforced(tmp_path / "data")
    found = {}
    for name, cache in (("live", {}), ("cached", {"cache": {"views": "stored"}})):
        recipe = stored_recipe(data, objective, num_steps=10, **WITHOUT_IMAGE_TOWER, **cache)
        outcome = train(recipe, tmp_path / name, name=name, watch=QuietWatch())
        found[name] = outcome.model.model.state_dict(), outcome.record
    (live, record), (cached, record_cached) = found.values()
    for name, expected in live.items():
        if name.startswith("image_encoder"):
            assert torch.equal(expected, cached[name]), name
        else:
            assert torch.allclose(expected, cached[name], atol=3e-3), name  # float16 features: three digits
    begun = stored_recipe(data, objective, num_steps=1, **WITHOUT_IMAGE_TOWER, cache={"views": "stored"})
    first = train(begun, tmp_path / "first", name="first", watch=QuietWatch()).model.model.state_dict()
    moved = max(float((first[name] - cached[name]).abs().max()) for name in cached if name.startswith("text_encoder."))
    assert moved > 4e-3, "the text tower is trained"
    assert record_cached.metrics["mean_recall"] == pytest.approx(record.metrics["mean_recall"], abs=0.1)
    assert record_cached.seconds["train_features"] > 0


@pytest.mark.slow
def test_a_run_on_cached_images_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    data = write_reinforced(tmp_path / "data")
    changes = {**WITHOUT_IMAGE_TOWER, "num_steps": 6, "checkpoint_every": 2, "cache": {"views": "stored"}}
    recipe = stored_recipe(data, OBJECTIVES["distillation"], **changes)
    weights = [run_and_resume(recipe, tmp_path / str(killed), killed_at=killed) for killed in (None, 5)]
    for expected, actual in zip(weights[0].values(), weights[1].values(), strict=True):
        assert torch.equal(expected, actual)


@pytest.mark.slow
def test_a_stage_on_cached_images_before_both_towers_hears_the_teachers(tmp_path: Path) -> None:
    data = write_reinforced(tmp_path / "data")
    cached = {**WITHOUT_IMAGE_TOWER, "cache": {"views": "stored"}, "log_every": 1}
    alone = stored_recipe(data, OBJECTIVES["distillation"], num_steps=3, **cached)
    train(alone, tmp_path / "alone", name="test", watch=QuietWatch())
    rates = {"heads": 0.001, "image_encoder": 0.001, "text_encoder": 0.001}
    last = {"num_steps": 1, "learning_rate": rates, "log_every": 1, "precision": "bfloat16"}  # not that of the first
    both = stored_recipe(data, OBJECTIVES["distillation"], **last)
    text = {**alone.train.model_dump(mode="json", exclude_unset=True), "name": "text"}
    staged = Recipe.parse({**both.model_dump(mode="json"), "early_stages": [text]}, place="test")
    train(staged, tmp_path / "staged", name="test", watch=QuietWatch())
    rows = {name: [row for row in read_metrics(tmp_path / name) if "loss" in row] for name in ("alone", "staged")}
    assert [row["stage"] for row in rows["staged"]] == ["text", "text", "text", "train"]
    assert [row["loss"] for row in rows["staged"][:3]] == pytest.approx([row["loss"] for row in rows["alone"]])
    assert all("feature_synthetic" in row for row in rows["staged"])


def test_plain_training_reads_the_same_shards(tmp_path: Path) -> None:
    data = write_reinforced(tmp_path / "data")
    recipe = stored_recipe(data, {"kind": "contrastive", "loss": {"kind": "multi_positive"}})
    train(recipe, tmp_path / "run", name="test", watch=QuietWatch())
    assert "multi_positive" in read_metrics(tmp_path / "run")[0]


@pytest.mark.parametrize("where", ["train", "early_stages.text"])
def test_synthetic_captions_have_to_be_stored(tmp_path: Path, where: str) -> None:
    data = write_reinforced(tmp_path / "data", num_synthetic=0)
    recipe = stored_recipe(data, OBJECTIVES["reinforced"], synthetic_captions_per_image=int(where == "train"))
    if where != "train":
        early = recipe.train.model_dump(mode="json", exclude_unset=True)
        early_stages = [{**early, "synthetic_captions_per_image": 1, "name": "text"}]
        recipe = Recipe.parse({**recipe.model_dump(mode="json"), "early_stages": early_stages}, place="test")
    told = rf"{where}\.synthetic_captions_per_image: 1, but reinforced:.* holds no synthetic"
    with pytest.raises(UserError, match=told):
        train(recipe, tmp_path / "run", name="test", watch=QuietWatch())


def test_a_temperature_for_each_teacher(tmp_path: Path) -> None:
    objective = {"kind": "reinforced", "teacher_scales": [70]}
    recipe = stored_recipe(write_reinforced(tmp_path / "data"), objective)
    with pytest.raises(UserError, match=r"objective\.teacher_scales: 1 value\(s\) for 2 teacher\(s\)"):
        train(recipe, tmp_path / "run", name="test", watch=QuietWatch())


# Live teachers


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that sees larger pictures, has another width and words of its own."""
    settings: Any = tiny_recipe_settings(num_steps=1)
    settings["model"] = {**settings["model"], "embed_dim": 24}
    settings["model"]["image_encoder"] = {**settings["model"]["image_encoder"], "image_size": 48}
    settings["model"]["text_encoder"] = {**settings["model"]["text_encoder"], "vocabulary_size": 200}
    folder = tmp_path_factory.mktemp("teacher") / "run"
    return train(Recipe.parse(settings, place="test"), folder, name="teacher", watch=QuietWatch()).folder / "bundle"


def live_recipe(bundle: Path, objective: dict[str, Any], **changes: Any) -> Recipe:
    settings = tiny_recipe_settings(log_every=1, precision="float32", **changes)
    teachers = [{"kind": "bundle", "path": str(bundle), "scale": scale} for scale in (50, 20)]
    return Recipe.parse({**settings, "objective": objective, "teachers": teachers}, place="test")


@pytest.mark.slow
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_live_teachers_see_every_batch(tmp_path: Path, bundle: Path, kind: str) -> None:
    recipe = live_recipe(bundle, OBJECTIVES[kind], augment={"crop_scale": [0.5, 1.0]})
    train(recipe, tmp_path / "run", name="test", watch=QuietWatch())
    rows = [row for row in read_metrics(tmp_path / "run") if "loss" in row]
    assert "affinity" in rows[0]
    assert not any(name.endswith("_synthetic") for name in rows[0])
    assert all(row["affinity"] > 0 for row in rows)


def test_live_teachers_make_of_a_batch_what_they_make_of_its_pictures_and_captions(bundle: Path) -> None:
    recipe = live_recipe(bundle, OBJECTIVES["reinforced"])
    source = recipe.data.train.open()
    teaching = open_teaching(recipe, source, torch.device("cpu"))
    assert teaching.live is not None
    assert teaching.widths == (24, 24)
    batches = TrainingBatches(
        source,
        BatchPlan(len(source), 5, seed=0),
        captions=DrawnCaptions(1),
        views=views_of(source, AugmentConfig(), PreprocessConfig(image_size=32, resize="crop")),
        tokenizer=train_tokenizer(["a"], vocabulary_size=100, context_length=8),
        teachers=teaching.brought,
    )
    (batch,) = batches.steps(0, 1, num_workers=0)
    whole, chunked = (teaching.live(batch, chunk_size) for chunk_size in (None, 2))
    assert whole.teacher_inputs == ()
    assert [teacher.scale for teacher in whole.teachers] == [50, 20]
    model = pocketclip.load(str(bundle))
    for place, index in enumerate(batch.indices.tolist()):
        sample = source[index]
        image = torch.from_numpy(model.encode_image([sample.image]))[0]
        texts = torch.from_numpy(model.encode_text(list(sample.captions)))
        for taught in (whole, chunked):
            assert float(taught.teachers[0].image[place] @ image) > 0.999
            assert float((texts @ taught.teachers[0].text[place]).max()) > 0.999


@pytest.mark.slow
def test_a_run_with_live_teachers_goes_on_with_the_same_bits(tmp_path: Path, bundle: Path) -> None:
    recipe = live_recipe(bundle, OBJECTIVES["distillation"], num_steps=4, checkpoint_every=1)
    weights = [run_and_resume(recipe, tmp_path / str(killed), killed_at=killed) for killed in (None, 3)]
    for expected, actual in zip(weights[0].values(), weights[1].values(), strict=True):
        assert torch.equal(expected, actual)


def test_a_missing_teacher_is_named(tmp_path: Path) -> None:
    recipe = live_recipe(tmp_path / "nowhere", OBJECTIVES["reinforced"])
    with pytest.raises(UserError, match="nowhere"):
        train(recipe, tmp_path / "run", name="test", watch=QuietWatch())


def on_a_rank(rank: int, folder: str, recipes: list[Recipe]) -> list[dict[str, Tensor]]:
    del rank
    return [
        train(recipe, Path(folder) / str(number), name="test", watch=QuietWatch()).model.model.state_dict()
        for number, recipe in enumerate(recipes)
    ]


@pytest.mark.slow
def test_two_ranks_learn_the_same_from_live_and_stored_teachers(tmp_path: Path, bundle: Path) -> None:
    settings = {"chunk_size": 1, "batch_norm": "frozen", "log_every": 1}
    stored = stored_recipe(write_reinforced(tmp_path / "data"), OBJECTIVES["distillation"], **settings)
    recipes = [live_recipe(bundle, OBJECTIVES["distillation"]), stored]
    first, second = run_ranks(on_a_rank, 2, str(tmp_path), recipes)
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    rows = [row for number in range(2) for row in read_metrics(tmp_path / str(number)) if "loss" in row]
    assert all(row["gradient"] > 0 for row in rows)
