"""Pictures of any height and width, from training to what a bundle answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pocketclip
from conftest import QuietWatch, encode_picture, tiny_model_settings, tiny_recipe_settings
from pocketclip.errors import UserError
from pocketclip.evaluate.tasks import Retrieval, TaskData
from pocketclip.models.origin.weights import read_state_dict
from pocketclip.preprocess import PreprocessConfig
from pocketclip.recipe import Recipe
from pocketclip.run.cost import cost_of
from pocketclip.run.train import Outcome, train

RATES = {"heads": 0.002, "image_encoder": 0.001, "text_encoder": 0.001}
TOWERS: dict[str, dict[str, Any]] = {
    "vit": {"kind": "timm", "name": "test_vit", "pretrained": "none"},
    "efficientnet": {"kind": "timm", "name": "test_efficientnet", "pretrained": "none", "resize": "squash"},
    "clip resnet": {"kind": "clip_resnet", "width": 8, "num_blocks": [1, 1, 1, 1]},
}
CROPS = {"crop_scale": [0.5, 1.0], "flip": True}


def recipe(tower: str, *, size: list[int] | int = [96, 32], early: list[Any] | None = None, **train: Any) -> Recipe:  # noqa: B006
    changes: dict[str, Any] = {"num_steps": 3, "learning_rate": RATES, "num_workers": 0, **train}
    settings = tiny_recipe_settings(**changes)
    settings["model"] = {**tiny_model_settings(), "image_encoder": {**TOWERS[tower], "image_size": size}}
    return Recipe.parse({**settings, **({} if early is None else {"early_stages": early})}, place="test")


def run(folder: Path, tower: str, **changes: Any) -> Outcome:
    return train(recipe(tower, **changes), folder, name="tall", watch=QuietWatch())


CASES: list[tuple[str, dict[str, Any]]] = [
    ("vit", {"augment": CROPS}),
    ("efficientnet", {"augment": CROPS}),
    ("clip resnet", {"augment": CROPS}),
    ("efficientnet", {"learning_rate": {"heads": 0.002}, "cache": {"views": ["centre", "flip", "crop"]}}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("tower", "changes"), CASES)
def test_a_bundle_of_a_rectangle_answers_as_the_model_that_was_trained(
    tower: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    outcome = run(tmp_path / "run", tower, **changes)
    written = json.loads((tmp_path / "run/bundle/preprocessor_config.json").read_text())
    assert written["crop_size"] == {"height": 96, "width": 32}
    loaded = pocketclip.load(str(tmp_path / "run"))
    assert loaded.preprocess == outcome.model.preprocess
    assert loaded.preprocess.shape == (96, 32)
    pictures = [encode_picture(seed, size) for seed, size in enumerate([(40, 100), (100, 40), (32, 96), (70, 70)])]
    embeddings = loaded.encode_image(pictures)
    assert np.array_equal(embeddings, outcome.model.encode_image(pictures))
    loaded.save_pretrained(tmp_path / "again")
    assert np.array_equal(pocketclip.load(str(tmp_path / "again")).encode_image(pictures), embeddings)
    scores = Retrieval().run(loaded, TaskData(outcome.splits["val"].source))
    assert scores is not None
    assert "96 x 32 px" in (tmp_path / "run/bundle/README.md").read_text()


@pytest.mark.slow
def test_a_stage_at_another_rectangle_trains_the_same_vit(tmp_path: Path) -> None:
    early = {"name": "low", "num_steps": 2, "batch_size": 4, "learning_rate": RATES, "num_workers": 0}
    run(tmp_path / "run", "vit", early=[{**early, "image_size": [48, 16]}])
    weights = read_state_dict(tmp_path / "run/bundle/model.safetensors")
    assert weights["image_encoder.tower.pos_embed"].shape[1] == 1 + 6 * 2
    with pytest.raises(UserError, match=r"early_stages\.low\.image_size: 50 x 16 does not suit .* 96 x 32"):
        run(tmp_path / "other", "vit", early=[{**early, "image_size": [50, 16]}])


@pytest.mark.slow
def test_a_rectangle_is_weighed(tmp_path: Path) -> None:
    outcome = run(tmp_path / "run", "efficientnet")
    tall = cost_of(str(tmp_path / "run"), seconds=0.01).metrics
    assert tall["image_size"] == "96 x 32"
    assert tall["macs_image"]
    assert isinstance(outcome.model.preprocess, PreprocessConfig)


@pytest.mark.slow
@pytest.mark.parametrize("tower", ["vit", "clip resnet"])
def test_a_bundle_of_squares_is_trained_on_with_rectangles(tower: str, tmp_path: Path) -> None:
    run(tmp_path / "square", tower, size=64)
    settings = recipe(tower, size=[128, 32]).model_dump(mode="json")
    settings["model"] |= {"bundle": str(tmp_path / "square")}
    outcome = train(Recipe.parse(settings, place="test"), tmp_path / "tall", name="tall", watch=QuietWatch())
    assert outcome.model.preprocess.shape == (128, 32)
    assert np.isfinite(outcome.model.encode_image([encode_picture(1, (32, 96))])).all()
