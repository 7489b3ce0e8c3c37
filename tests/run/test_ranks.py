"""Whole runs on several ranks: who may take part, and what each of them reads."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from conftest import tiny_recipe_settings
from pocketclip import distributed
from pocketclip.errors import UserError
from pocketclip.recipe import Recipe
from pocketclip.run import setup
from processes import run_ranks


def refusal(rank: int, what: str) -> str:
    settings: dict[str, Any] = tiny_recipe_settings()
    if rank == 1 and what == "recipe":
        settings["train"]["batch_size"] = 6
    if rank == 1 and what == "timm":
        before = setup.version
        setup.version = lambda name: "0.1" if name == "timm" else before(name)  # type: ignore[attr-defined]
    with pytest.raises(UserError) as error:
        setup.check_ranks_agree(Recipe.parse(settings, place="test"), torch.device("cpu"))
    return str(error.value)


def test_ranks_with_different_recipes_are_refused() -> None:
    first, second = run_ranks(refusal, 2, "recipe")
    assert first.startswith("Rank 1 has another recipe than rank 0. First difference: 'batch_size: 6' there")
    assert second.startswith("Rank 0 has another recipe than rank 1. First difference: 'batch_size: 4' there")


def test_ranks_with_different_versions_are_refused() -> None:
    first, second = run_ranks(refusal, 2, "timm")
    assert "Rank 1 has timm 0.1, rank 0 has " in first
    assert ", rank 1 has 0.1. Install" in second
    assert "Install the same versions" in first


def agreement(rank: int) -> bool:
    del rank
    setup.check_ranks_agree(Recipe.parse(tiny_recipe_settings(), place="test"), torch.device("cpu"))
    return True


def test_equal_ranks_pass() -> None:
    assert run_ranks(agreement, 2) == [True, True]


def read_by(rank: int, pattern: str) -> list[str]:
    """Captions that a rank reads in one epoch, with more workers than shards."""
    from pocketclip.data import open_source
    from pocketclip.data.batches import BatchPlan, DrawnCaptions, TrainingBatches, views_of
    from pocketclip.data.pictures.augment import AugmentConfig
    from pocketclip.preprocess import PreprocessConfig
    from pocketclip.tokenizer import train_tokenizer

    source = open_source(f"webdataset:{pattern}", place="test")
    plan = BatchPlan(len(source), 6, seed=3)
    batches = TrainingBatches(
        source,
        plan,
        captions=DrawnCaptions(1),
        views=views_of(source, AugmentConfig(), PreprocessConfig(image_size=16)),
        tokenizer=train_tokenizer(["a"], vocabulary_size=300, context_length=8),
    )
    own = batches.steps(0, plan.steps_per_epoch, num_workers=2, share=plan.share(rank, distributed.world_size()))
    return [int(number) for batch in own for number in batch.indices]


@pytest.mark.slow
@pytest.mark.parametrize("num_shards", [1, 3])
def test_ranks_and_workers_share_any_number_of_shards(tmp_path: Path, num_shards: int) -> None:
    from pocketclip.data import open_source
    from pocketclip.data.shards import write_shards

    scenes = open_source({"kind": "scenes", "count": 24, "image_size": 32}, place="test")
    write_shards(scenes, tmp_path, name="data", samples_per_shard=24 // num_shards)
    found = run_ranks(read_by, 2, f"{tmp_path}/data-*.tar")
    assert [len(numbers) for numbers in found] == [12, 12]
    assert Counter(number for numbers in found for number in numbers) == Counter(range(24))


def running_means(rank: int) -> list[float]:
    """Batch norms that saw other data on each rank agree once averaged."""
    norm = nn.BatchNorm1d(2, momentum=1.0)
    norm(torch.full((3, 2), float(rank)))
    distributed.average_in_place([norm.running_mean, norm.running_var])
    return norm.running_mean.tolist()


def test_running_statistics_can_be_averaged() -> None:
    assert run_ranks(running_means, 3) == [[1.0, 1.0]] * 3
