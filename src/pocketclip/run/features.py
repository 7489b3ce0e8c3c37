"""The feature cache of a recipe filled ahead of training, by this process or by many."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pocketclip.config import digest
from pocketclip.data import Source
from pocketclip.data.blocks import Block, Engine, Stage, fill
from pocketclip.data.cache import CacheConfig, cache_folder
from pocketclip.errors import UserError
from pocketclip.models.precision import resolve_device
from pocketclip.recipe import Recipe
from pocketclip.run.setup import open_data, starting_model
from pocketclip.stages.watch import BrokenItems, Watch
from pocketclip.train.features import FrozenTowers, What


def fill_cache(recipe: Recipe, engine: Engine, watch: Watch, *, device: str = "auto") -> dict[str, int]:
    """Encode what training with this recipe looks for in the feature cache; the entries are the same to the byte.

    Args:
        recipe: with a stage that uses the cache.
        engine: what computes.
        watch: told of the samples done.
        device: `cpu`, `cuda` or `auto`.

    Returns:
        Images, with a caption where captions are encoded too, for `train`, `val`, and `test` where training caches it.

    Raises:
        UserError: the recipe caches nothing, too many broken items, or a full disk.
    """
    if recipe.train.cache is None and recipe.heads_first is None:
        raise UserError(
            "train.cache: this recipe trains its towers and caches no features; add a cache or a heads_first section."
        )
    on = resolve_device(device)
    towers, sources = _open(recipe, on)
    counts = {}
    for split, source in sources.items():
        counted = BrokenItems(len(source), recipe.data.max_broken_share, watch=watch)
        blocks = partial(_blocks, recipe, split, towers.root, str(on), engine, counted)
        views, scored = _views(recipe, split), split != "train"
        fill = towers.features if recipe.caches_texts else towers.images
        filled = fill(source, views, counted, seed=recipe.seed, for_scores=scored, blocks=blocks)
        counts[split] = len(filled)
    return counts


def _blocks(
    recipe: Recipe,
    split: str,
    root: Path,
    device: str,
    engine: Engine,
    watch: BrokenItems,
    what: What,
    stage: Stage,
    start: int,
) -> Iterator[tuple[int, Block]]:
    """Blocks by an engine, kept beside the cache until all of them are in it; see `train.features.Blocks`."""
    backend = stage.made_from["backend"]  # as chosen for the whole, not anew in every worker
    open_stage = partial(open_feature_stage, recipe.model_dump(mode="json"), split, what, device, backend)
    first = start // stage.block_size

    path = root.with_name(f"{root.name}-blocks") / digest(stage.made_from)
    folder = fill(path, stage, open_stage, engine, watch, resume=True, first=first)
    for number in range(first, stage.num_blocks):
        yield stage.bounds(number)[1], folder.read(number)
    folder.remove()


def open_feature_stage(recipe: dict[str, Any], split: str, what: What, device: str, backend: str) -> Stage:
    """One stage of `fill_cache` opened in a worker."""
    loaded = Recipe.parse(recipe, place="recipe")
    towers, sources = _open(loaded, torch.device(device), inference=backend)
    if what == "captions":
        return towers.text_stage(sources[split], for_scores=split != "train")
    return towers.image_stage(sources[split], _views(loaded, split), seed=loaded.seed, for_scores=split != "train")


def _open(recipe: Recipe, device: torch.device, *, inference: str = "auto") -> tuple[FrozenTowers, dict[str, Source]]:
    """The towers as training builds them, and the sources whose features it caches."""
    train, val = open_data(recipe.data)
    sources = {"train": train, "val": val}
    if recipe.data.test is not None and recipe.train.cache is not None:
        sources["test"] = recipe.data.test.open()
    torch.manual_seed(recipe.seed)
    tokenizer, model = starting_model(recipe, train)
    towers = FrozenTowers(
        model,
        tokenizer,
        model.image_encoder.preprocess,
        root=cache_folder(),
        device=device,
        precision=recipe.train.precision,
        num_images=len(train),  # as in training, or the backends and so the entries would not be the same
        num_texts=len(train) if recipe.caches_texts else 0,
        inference=inference,
    )
    return towers, sources


def _views(recipe: Recipe, split: str) -> CacheConfig:
    """What training stores of a split's images."""
    stage = recipe.train if recipe.heads_first is None else recipe.heads_first
    return stage.cache if split == "train" and stage.cache is not None else CacheConfig(views=("centre",))
