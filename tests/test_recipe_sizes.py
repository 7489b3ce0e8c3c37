"""A recipe may name its model; what is written down of it names nothing."""

import json
from pathlib import Path

import pytest
import yaml

from conftest import tiny_recipe_settings
from pocketclip.errors import UserError
from pocketclip.models.config import DualEncoderConfig
from pocketclip.recipe import Recipe, dump_recipe, load_recipe


def write(folder: Path, model: object) -> str:
    path = folder / "named.yaml"
    path.write_text(json.dumps({**tiny_recipe_settings(), "model": model}))
    return str(path)


@pytest.mark.parametrize("model", ["pocket_xs", {"size": "pocket_xs"}])
def test_a_recipe_holds_everything_its_size_stands_for(model: object, tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, model))
    assert recipe.model == DualEncoderConfig.parse("pocket_xs", place="size")
    dumped = yaml.safe_load(dump_recipe(recipe))
    assert dumped["model"]["text_encoder"]["width"] == 128
    assert "size" not in dumped["model"]
    assert Recipe.parse(dumped, place="dumped") == recipe


@pytest.mark.parametrize("model", ["pocket_xs", {"size": "pocket_xs", "embed_dim": 8}])
def test_a_size_is_changed_on_the_command_line(model: object, tmp_path: Path) -> None:
    changes = ["model.image_encoder.image_size=96", "model.embed_dim=32"]
    recipe = load_recipe(write(tmp_path, model), changes)
    assert (recipe.model.image_encoder.image_size, recipe.model.embed_dim) == (96, 32)
    assert recipe.model.image_encoder.name == "mobilenetv4_conv_small_050"
    other = load_recipe(write(tmp_path, model), ["model.size=pocket_s"])
    assert other.model.image_encoder.name == "mobilenetv4_conv_small"
    assert load_recipe(write(tmp_path, model), ["model=pocket_m"]).model.embed_dim == 384


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("pocket_xxs", r"named\.yaml: model: Unknown size 'pocket_xxs'. Did you mean 'pocket_xs'\?"),
        ({"size": "pocket_s", "embed_dmi": 3}, r"model\.embed_dmi: unknown key 'embed_dmi'. Did you mean 'embed_dim'"),
        ({"size": "pocket_s", "text_encoder": {"widht": 3}}, r"model\.text_encoder\.widht: .*Did you mean 'width'\?"),
    ],
)
def test_mistakes_are_named(model: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load_recipe(write(tmp_path, model))
