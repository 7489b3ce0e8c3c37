"""Each strategy trains some steps from a few lines of a recipe, and goes on after a kill with the same bits."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from conftest import QuietWatch, tiny_model_settings, tiny_recipe_settings
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.errors import UserError
from pocketclip.models.image.timm import TimmImageEncoder
from pocketclip.recipe import Recipe
from pocketclip.run.train import Outcome, train
from pocketclip.train.metrics import read_metrics
from processes import run_ranks
from taught import run_and_resume

ROOT = Path(__file__).parents[2]
RATES = {"heads": 0.002, "image_encoder": 0.001, "text_encoder": 0.001}
VIT = {"kind": "timm", "name": "test_vit", "pretrained": "none", "image_size": 64}
EARLY = {"name": "early", "num_steps": 3, "batch_size": 4, "learning_rate": RATES, "num_workers": 0}
SIMCLR = {"hidden_width": 32, "width": 16}
CLIP = {"kind": "contrastive"}
LINEAR = {"image_head": {"kind": "linear"}, "text_head": {"kind": "linear"}}

STRATEGIES: dict[str, dict[str, Any]] = {
    "clip": {},
    "slip": {"objective": {**CLIP, "simclr": SIMCLR}},
    "slip with chunks": {"objective": {**CLIP, "simclr": SIMCLR}, "train": {"chunk_size": 2}},
    "flip": {"early_stages": [{**EARLY, "keep_patches": 0.5, "batch_size": 8}]},
    "flip at the end": {"train": {"keep_patches": 0.25, "batch_size": 8}},
    "crop and flip": {"train": {"augment": {"crop_scale": [0.5, 1.0], "flip": True}}},
    "rand_augment": {"train": {"augment": {"rand_augment": {"num_ops": 2, "magnitude": 9}}}},
    "stacked rand_augment": {"train": {"augment": {"rand_augment": {"num_ops": 4, "magnitude": 9}}}},
    "color_jitter": {"train": {"augment": {"color_jitter": {}}}},
    "lit": {"train": {"learning_rate": {"heads": 0.002, "text_encoder": 0.001}}},
    "lit, images cached": {"train": {"learning_rate": {"heads": 0.002, "text_encoder": 0.001}, "cache": {}}},
    "heads first, then lit, images cached": {
        "heads_first": {
            "num_steps": 3,
            "batch_size": 4,
            "num_workers": 0,
            "learning_rate": {"heads": 0.002},
            "cache": {},
        },
        "train": {"learning_rate": {"heads": 0.002, "text_encoder": 0.001}, "cache": {}},
    },
    "sigmoid": {"objective": {"kind": "contrastive", "loss": {"kind": "sigmoid"}}, "model": {"logit_bias": -1.1}},
    "multi-caption": {
        "objective": {"kind": "contrastive", "loss": {"kind": "multi_positive"}},
        "train": {"captions_per_image": 2},
    },
    "clipa": {
        "early_stages": [{**EARLY, "image_size": 32, "text_tokens": {"kind": "syntax", "keep": 4}}],
    },
    "smaller crops": {"train": {"image_size": 32, "augment": {"crop_scale": [0.5, 1.0]}}},
    "text tokens": {"train": {"text_tokens": {"kind": "random", "keep": 4}}},
    "a block of text tokens": {"train": {"text_tokens": {"kind": "block", "keep": 4}}},
    "hard negatives": {"early_stages": [EARLY], "train": {"hard_negatives": {"group": 2}}},
    "slip and flip through a shared encoder": {
        "objective": {**CLIP, "simclr": SIMCLR},
        "model": {"shared_encoder": {"kind": "transformer", "num_heads": 2, "image_readout": "mean"}, **LINEAR},
        "train": {"keep_patches": 0.5, "chunk_size": 3},
    },
    "slip, flip, clipa and hard negatives": {
        "objective": {**CLIP, "simclr": SIMCLR},
        "early_stages": [
            {**EARLY, "image_size": 32, "keep_patches": 0.5, "text_tokens": {"kind": "truncate", "keep": 4}}
        ],
        "train": {"hard_negatives": {"group": 2}, "keep_patches": 0.5, "chunk_size": 2},
    },
}


def recipe(strategy: dict[str, Any], **train: Any) -> Recipe:
    changes = {"num_steps": 6, "checkpoint_every": 2, "learning_rate": RATES, "evaluate_every": None, "log_every": 1}
    settings = tiny_recipe_settings(**{**changes, **strategy.get("train", {}), **train})
    settings["model"] = {**tiny_model_settings(), "image_encoder": VIT, **strategy.get("model", {})}
    settings["train"]["num_workers"] = 0  # type: ignore[index]
    rest = {key: value for key, value in strategy.items() if key not in ("train", "model")}
    return Recipe.parse({**settings, **rest}, place="test")


def run(folder: Path, strategy: dict[str, Any], **changes: Any) -> Outcome:
    return train(recipe(strategy, **changes), folder, name="test", watch=QuietWatch())


QUICK = ("slip", "lit", "text tokens")
"""The others are those with other numbers, or several at once."""


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in STRATEGIES]
)
def test_some_steps_and_a_model_for_whole_pictures_and_texts(name: str, tmp_path: Path) -> None:
    outcome = run(tmp_path / "run", STRATEGIES[name])
    rows = [row for row in read_metrics(tmp_path / "run") if "loss" in row]
    assert all(torch.isfinite(torch.tensor(row["loss"])) for row in rows)
    assert ("simclr" in rows[0]) == ("slip" in name)
    assert outcome.model.encode_text("a red circle").shape == (1, 16)


def test_a_model_is_shown_larger_pictures_than_it_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last stage's size is of its steps alone: scores and the bundle are of the model's own."""
    seen: dict[bool, set[tuple[int, ...]]] = {True: set(), False: set()}
    forward = TimmImageEncoder.forward

    def watched(tower: TimmImageEncoder, images: Tensor) -> Tensor:
        seen[torch.is_grad_enabled()].add(tuple(images.shape[2:]))
        return forward(tower, images)

    monkeypatch.setattr(TimmImageEncoder, "forward", watched)
    outcome = run(tmp_path / "run", STRATEGIES["smaller crops"])
    assert seen[True] == {(32, 32)}
    assert (64, 64) in seen[False]
    assert PretrainedModel.from_pretrained(tmp_path / "run").preprocess.image_size == 64
    assert outcome.record.num_steps == 6


def blocks_of_the_page() -> list[str]:
    """The page's lines of each strategy; a block with a key more than once shows so many strategies."""
    section = (ROOT / "docs" / "recipes.md").read_text().partition("## Strategies")[2].partition("\n## ")[0]
    found: list[str] = []
    for block in re.findall(r"```yaml\n(.*?)```", section, flags=re.DOTALL):
        keys = re.findall(r"^(\w+):", block, flags=re.MULTILINE)
        found += block.splitlines() if len(set(keys)) < len(keys) else [block]
    return found


@pytest.mark.parametrize("block", blocks_of_the_page())
def test_the_pages_lines_are_a_recipe(block: str) -> None:
    settings = tiny_recipe_settings(num_steps=2, learning_rate=RATES)
    settings["model"] = {**tiny_model_settings(), "image_encoder": {**VIT, "pretrained": "hub"}}
    for key, values in yaml.safe_load(block).items():
        settings[key] = {**settings.get(key, {}), **values} if isinstance(values, dict) else values  # type: ignore[dict-item]
    Recipe.parse(settings, place="the page")


def test_the_page_shows_every_strategy() -> None:
    page = " ".join(blocks_of_the_page())
    for words in (
        "simclr",
        "keep_patches",
        "image_size",
        "text_tokens",
        "crop_scale",
        "rand_augment",
        "hard_negatives",
    ):
        assert words in page


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("slip", "flip", "flip at the end", "clipa")),
        "slip, flip, clipa and hard negatives",
    ],
)
def test_a_killed_run_goes_on_with_the_same_bits(name: str, tmp_path: Path) -> None:
    whole = run_and_resume(recipe(STRATEGIES[name]), tmp_path / "whole", None)
    again = run_and_resume(recipe(STRATEGIES[name]), tmp_path / "again", 5)
    for key, value in whole.items():
        assert torch.equal(again[key], value), key


def on_a_rank(rank: int, folder: str, recipes: list[Recipe]) -> list[dict[str, Tensor]]:
    del rank
    return [
        train(one, Path(folder) / str(number), name="test", watch=QuietWatch()).model.model.state_dict()
        for number, one in enumerate(recipes)
    ]


@pytest.mark.slow
def test_two_ranks_end_with_one_model(tmp_path: Path) -> None:
    names = ("slip", "slip, flip, clipa and hard negatives")
    first, second = run_ranks(on_a_rank, 2, str(tmp_path), [recipe(STRATEGIES[name]) for name in names])
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(other[key], value) for key, value in one.items() if "running" not in key)


@pytest.mark.parametrize(
    ("encoder", "strategy", "message"),
    [
        (
            {"name": "test_efficientnet"},
            STRATEGIES["flip"],
            r"^early_stages\.early\.keep_patches: test_efficientnet needs all places of its map",
        ),
        (
            {"name": "test_efficientnet"},
            STRATEGIES["flip at the end"],
            r"^train\.keep_patches: test_efficientnet needs all places of its map",
        ),
        (
            {"name": "mixer_s32_224", "num_layers": None},
            STRATEGIES["clipa"],
            r"^early_stages\.early\.image_size: 32 does not suit the image tower, whose own size is 64",
        ),
        (
            {},
            {"early_stages": [{**EARLY, "image_size": 33}]},
            r"^early_stages\.early\.image_size: 33 does not suit the image tower, whose own size is 64",
        ),
    ],
)
def test_what_a_tower_cannot_do_is_said_before_the_first_step(
    encoder: dict[str, Any], strategy: dict[str, Any], message: str, tmp_path: Path
) -> None:
    first = {**EARLY, "name": "first", "num_steps": 1000}
    early = [first, *strategy.get("early_stages", [])]
    settings = {**strategy, "early_stages": early, "model": {"image_encoder": {**VIT, **encoder}}}
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", settings)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.slow
def test_convolutional_towers_take_smaller_pictures_first(tmp_path: Path) -> None:
    strategy = {**STRATEGIES["clipa"], "model": {"image_encoder": {**VIT, "name": "test_efficientnet"}}}
    assert run(tmp_path / "run", strategy).record.num_steps == 9
