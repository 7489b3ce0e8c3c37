"""A second look: the mean of two features when a tower is asked, one of them in training."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from conftest import tiny_model_settings, tiny_recipe_settings
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.cost.flops import tower_macs
from pocketclip.errors import UserError
from pocketclip.models.build import build_model
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.image.config import TimmImageEncoderConfig
from pocketclip.models.image.timm import TimmImageEncoder
from pocketclip.models.running.backend_memory import Backend
from pocketclip.models.running.runner import Runner, module_fingerprint
from pocketclip.recipe import Recipe
from pocketclip.run.speed import training_flops
from pocketclip.tokenizer import train_tokenizer

LOOKS: list[dict[str, object]] = [{}, {"image_size": 64}, {"image_size": 96, "flip": False}, {"image_size": [64, 96]}]


def build(look: dict[str, object] | None = None, name: str = "test_efficientnet", **more: object) -> TimmImageEncoder:
    torch.manual_seed(0)
    config = {"name": name, "pretrained": "none", "image_size": 80, "second_look": look, **more}
    return TimmImageEncoderConfig.parse(config, place="image_encoder").build().eval()


def pictures(count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, 3, 80, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def seen_again(images: Tensor, look: dict[str, object]) -> Tensor:
    size = look.get("image_size")
    if size is not None:
        sides = (size, size) if isinstance(size, int) else tuple(size)  # type: ignore[call-overload]
        images = F.interpolate(images, sides, mode="bicubic", antialias=min(sides) < 80)
    return images if look.get("flip") is False else torch.from_numpy(images.numpy()[..., ::-1].copy())


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("stages", [(), (1, -1)])
@torch.no_grad()
def test_the_feature_is_the_mean_of_both_looks(look: dict[str, object], stages: tuple[int, ...]) -> None:
    twice = build(look, joined_stages=stages, normalization="half", interpolation="bicubic")
    once = build(joined_stages=stages, normalization="half", interpolation="bicubic")
    images = pictures().float() / 127.5 - 1
    expected = (once(images) + once(seen_again(images, look))) / 2
    torch.testing.assert_close(twice(images), expected)
    torch.testing.assert_close(twice(pictures()), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, once(images), rtol=1e-3)


@torch.no_grad()
def test_training_sees_each_picture_once_and_so_does_who_asks_for_it() -> None:
    twice, once = build({}), build()
    assert torch.equal(twice.train()(pictures()), once.train()(pictures()))
    twice, once = build({}), build()
    plain = module_fingerprint(once, once.settings)
    assert module_fingerprint(twice, twice.settings) != plain
    twice.look_once()
    assert torch.equal(twice(pictures()), once(pictures()))
    assert module_fingerprint(twice, twice.settings) == plain
    twice.look_once(False)
    assert module_fingerprint(twice, twice.settings) != plain
    assert not torch.equal(twice(pictures()), once(pictures()))


@pytest.mark.parametrize("backend", ["eager", pytest.param("compiled", marks=pytest.mark.slow), "onnx"])
@pytest.mark.parametrize("look", LOOKS)
def test_every_backend_looks_twice(look: dict[str, object], backend: Backend) -> None:
    if backend == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    settings = tiny_model_settings()
    tower = {"kind": "timm", "name": "test_efficientnet", "pretrained": "none", "image_size": 80, "second_look": look}
    model = build_model(
        DualEncoderConfig.parse({**settings, "image_encoder": tower}, place="tiny"), vocabulary_size=300
    ).eval()
    runner = Runner(model, device=torch.device("cpu"), precision="float32", image_size=80, inference=backend)
    with torch.no_grad():
        expected = F.normalize(model.encode_image(pictures()), dim=1).numpy()
    got = runner.encode_images(pictures().permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_who_asks_pays_for_both_looks_and_who_trains_for_one() -> None:
    macs, flops = [], []
    for look in (None, {}):
        settings: dict[str, Any] = tiny_recipe_settings()
        settings["model"]["image_encoder"]["second_look"] = look
        recipe = Recipe.parse(settings, place="tiny")
        model = build_model(recipe.model, vocabulary_size=300)
        macs.append(tower_macs(model, image_size=32, context_length=0)["macs_image"])
        flops.append(training_flops(recipe, 24))
    head = tiny_model_settings()["embed_dim"] * model.image_encoder.feature_dim  # type: ignore[operator]
    assert macs[1] - head == 2 * (macs[0] - head)
    assert flops[1] == flops[0]


@pytest.mark.parametrize("size", [None, 80, [80, 80]])
def test_a_look_that_sees_nothing_new_is_refused(size: object) -> None:
    with pytest.raises(
        UserError, match="second_look sees what the first one saw; give it flip: true or another image_size"
    ):
        build({"flip": False, "image_size": size})


def test_a_model_that_looks_twice_is_another_model_of_the_same_weights() -> None:
    settings, marks = tiny_model_settings(), []
    for look in (None, {}, {"image_size": 24}):
        torch.manual_seed(0)
        tower = {"kind": "timm", "name": "test_efficientnet", "pretrained": "none", "image_size": 32}
        config = DualEncoderConfig.parse({**settings, "image_encoder": {**tower, "second_look": look}}, place="tiny")
        model = build_model(config, vocabulary_size=300)
        tokenizer = train_tokenizer(["a red circle"], vocabulary_size=300, context_length=16)
        asked = PretrainedModel(model, config, tokenizer, model.image_encoder.preprocess)
        marks += [asked.image_identity(), asked.fingerprint]
        assert ("second_look" in config.model_dump()["image_encoder"]) == (look is not None)
    assert len(set(marks)) == 6


def test_a_size_that_the_tower_cannot_take_is_named() -> None:
    with pytest.raises(UserError, match="image_size: this tower takes no pictures of 80 and 64 px"):
        build({"image_size": 64}, "test_vit", architecture={"patch_size": 16, "dynamic_img_size": False})
    build({}, "test_vit", architecture={"patch_size": 16, "dynamic_img_size": False})


def test_tokens_of_two_looks_do_not_go_together() -> None:
    settings = tiny_model_settings()
    tower = {"kind": "timm", "name": "test_vit", "pretrained": "none", "image_size": 32, "second_look": {}}
    settings |= {"text_head": {"kind": "linear"}, "shared_encoder": {"kind": "transformer"}}
    with pytest.raises(UserError, match=r"second_look goes with features, not with the tokens of a shared_encoder"):
        DualEncoderConfig.parse({**settings, "image_encoder": tower}, place="tiny")
