"""A recipe whose model is a size trains, ends in a bundle, and the bundle is loaded and searched with."""

from pathlib import Path

import pytest

import pocketclip
from conftest import QuietWatch, tiny_recipe_settings
from pocketclip.recipe import Recipe
from pocketclip.run.train import train

SMALL = {
    "size": "pocket_xs",
    "image_encoder": {"name": "test_efficientnet", "image_size": 32},
    "text_encoder": {"width": 16, "num_heads": 2, "vocabulary_size": 300, "context_length": 12},
    "embed_dim": 16,
}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"chunk_size": 2, "checkpoint_activations": True, "batch_norm": "frozen"}])
def test_a_small_size_trains(options: dict[str, object], tmp_path: Path) -> None:
    recipe = Recipe.parse({**tiny_recipe_settings(**options), "model": SMALL}, place="test")
    outcome = train(recipe, tmp_path / "run", name="named", watch=QuietWatch())
    card = (tmp_path / "run" / "bundle" / "README.md").read_text()
    assert "transformer of 4 x 16, 2 of them convolutions, 12 tokens" in card
    loaded = pocketclip.load(str(tmp_path / "run")).to("cpu", precision="float32")
    texts = ["a small red circle", "two blue squares above a green star"]
    expected = outcome.model.to("cpu", precision="float32").encode_text(texts)
    assert loaded.encode_text(texts) == pytest.approx(expected, abs=1e-6)
    assert loaded.encode_text(texts)[:1] == pytest.approx(loaded.encode_text(texts[:1]), abs=1e-6)
