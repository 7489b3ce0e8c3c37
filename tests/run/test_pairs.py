"""Pairs of images through the one training loop."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import QuietWatch, tiny_recipe_settings
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.errors import UserError
from pocketclip.models.build import build_model
from pocketclip.objectives.config import PairsObjectiveConfig
from pocketclip.recipe import Recipe
from pocketclip.records import EvalResult, read_records
from pocketclip.run.train import train
from pocketclip.train.gradient_cache import chunked_backward
from pocketclip.types import Features, ImageTextBatch


def pair_settings(**more: object) -> dict[str, Any]:
    settings: dict[str, Any] = tiny_recipe_settings(keep="best", keep_metric="accuracy", evaluate_every=1, **more)
    settings["data"] = {
        "train": {"kind": "scene_pairs", "count": 16, "image_size": 32},
        "val": {"kind": "scene_pairs", "count": 8, "seed": 1, "image_size": 32},
    }
    settings["model"]["pair_head"] = {"hidden_width": 8, "dropout": 0.0}
    settings["model"]["text_encoder"]["context_length"] = 32
    settings["objective"] = {"kind": "pairs"}
    return settings


def test_a_run_ends_with_a_judging_bundle(tmp_path: Path) -> None:
    recipe = Recipe.parse(pair_settings(), place="test")
    outcome = train(recipe, tmp_path / "run", name="pairs", watch=QuietWatch())
    result = outcome.splits["val"].result
    assert (result.task, result.num_captions) == ("nlvr2", 8)
    assert set(outcome.record.metrics) == {"accuracy", "consistency", "val_loss"}
    assert PretrainedModel.from_pretrained(tmp_path / "run").model.pair_head is not None
    assert any(isinstance(record, EvalResult) and record.task == "nlvr2" for record in read_records(tmp_path / "run"))
    assert "| val | 8 |" in (tmp_path / "run" / "bundle" / "README.md").read_text()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("pairs" in row for row in rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["model"].pop("pair_head"), "trains model.pair_head"),
        (lambda s: s["data"].pop("val"), "needs data.val"),
        (lambda s: s["data"].update(val="scenes:8"), "data.val of kind nlvr2 or scene_pairs"),
        (lambda s: s["data"].update(train="scenes:16,texts=choices"), "data.train"),
        (lambda s: s.update(objective={"kind": "contrastive"}), "for objective.kind pairs only"),
        (lambda s: s["train"].update(captions_per_image=2), r"train\.captions_per_image 1"),
        (lambda s: s.update(early_stages=[{**s["train"], "name": "low", "epoch": "captions"}]), r"low\.epoch images"),
    ],
)
def test_recipes_that_do_not_fit(change: Any, message: str) -> None:
    settings = pair_settings()
    change(settings)
    with pytest.raises(UserError, match=message):
        Recipe.parse(settings, place="test")


def make_batch(examples: int = 4) -> ImageTextBatch:
    random = torch.Generator().manual_seed(0)
    return ImageTextBatch(
        images=torch.randint(0, 256, (2 * examples, 3, 32, 32), dtype=torch.uint8, generator=random),
        tokens=torch.randint(5, 90, (2 * examples, 6), generator=random),
        token_mask=torch.ones(2 * examples, 6, dtype=torch.bool),
        image_ids=torch.arange(2 * examples),
        caption_ids=torch.arange(2 * examples) // 2,
        labels=torch.tensor([1, 0] * (examples // 2)),
    )


def test_chunks_give_the_gradient_of_the_whole_batch() -> None:
    """Three images a chunk: examples are cut apart in the towers and whole in the pair head."""
    torch.manual_seed(0)
    settings = pair_settings()
    settings["model"]["text_head"] = {"kind": "linear"}
    model = build_model(Recipe.parse(settings, place="test").model, vocabulary_size=100).eval()
    objective, batch = PairsObjectiveConfig().build(), make_batch()
    losses = objective(model(batch), batch)
    losses["pairs"].backward()
    wanted = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    chunked = chunked_backward(
        model, objective, batch, chunk_size=3, autocast=lambda: torch.autocast("cpu", enabled=False)
    )
    torch.testing.assert_close(chunked["pairs"], losses["pairs"].detach())
    assert any(name.startswith("pair_head.") for name in wanted)
    for name, value in model.named_parameters():
        if name in wanted:
            torch.testing.assert_close(value.grad, wanted[name], rtol=1e-3, atol=1e-5)


def test_the_mean_over_ranks_is_the_mean_over_examples() -> None:
    objective = PairsObjectiveConfig().build()
    logits, labels, zero = torch.tensor([0.3, -1.0, 2.0]), torch.tensor([1, 1, 0]), torch.zeros(())

    def loss(part: slice, shares: tuple[int, ...]) -> torch.Tensor:
        count = len(labels[part])
        empty = torch.zeros(2 * count, 1)
        batch = ImageTextBatch(
            images=empty,
            tokens=empty,
            token_mask=torch.zeros(2 * count, 0, dtype=torch.bool),
            image_ids=torch.arange(2 * count),
            caption_ids=torch.arange(2 * count),
            shares=shares,
            labels=labels[part],
        )
        return objective(Features(empty, empty, zero, zero, pair_logits=logits[part]), batch)["pairs"]

    ranks = [loss(slice(0, 2), (4, 2)), loss(slice(2, 3), (4, 2))]
    torch.testing.assert_close(torch.stack(ranks).mean(), loss(slice(0, 3), ()))
