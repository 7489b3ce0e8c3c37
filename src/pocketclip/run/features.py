"""The feature cache of a recipe filled ahead of training, by this process or by many."""

from functools import partial
from typing import Any

import torch

from pocketclip.data import Source
from pocketclip.data.source import left_out_lines, whole_of
from pocketclip.errors import UserError
from pocketclip.features.cache import CacheConfig
from pocketclip.features.pairs import CachedPairs
from pocketclip.features.towers import FrozenTowers
from pocketclip.models.running.precision import resolve_device
from pocketclip.recipe import Recipe
from pocketclip.run.data import open_data
from pocketclip.run.fit import fit_to_data
from pocketclip.run.setup import frozen_towers, starting_model
from pocketclip.stages.engine import Engine
from pocketclip.stages.store import Stage
from pocketclip.stages.watch import SILENT, BrokenItems, Watch


def fill_cache(recipe: Recipe, engine: Engine, watch: Watch, *, device: str = "auto") -> dict[str, int]:
    """Encode what training with this recipe looks for in the feature cache; the entries are the same to the byte.

    Returns:
        Images, with a caption where captions are encoded too, for `train`, `val`, and `test` where training caches it.

    Raises:
        UserError: the recipe caches nothing, too many broken items, or a full disk.
    """
    if _first_cache(recipe) is None:
        raise UserError(
            "train.cache: this recipe trains its towers and caches no features; add a cache or a heads_first section."
        )
    recipe, _ = fit_to_data(recipe, watch)
    on = resolve_device(device)
    towers, sources = _open(recipe, on, watch=watch)
    for line in left_out_lines(*sources.values()):
        watch.note(line)
    counts, of_whole = {}, dict[int, BrokenItems]()
    for split, source in sources.items():
        whole, share = whole_of(source), recipe.data.max_broken_share
        counted = of_whole.setdefault(id(whole), BrokenItems(len(whole), share, watch=watch))
        blocks = []
        for number, stage in enumerate(_stages(recipe, towers, source, split)):
            settings = (recipe.model_dump(mode="json"), split, str(on), number, stage.made_from["backend"])
            blocks.append(towers.cached(stage, counted, engine, partial(open_feature_stage, *settings)))
        counts[split] = len(blocks[0]["indices"])
        if len(blocks) > 1:
            pairs = CachedPairs.join(blocks[0], blocks[1], source.place)
            counted.add(pairs.broken)
            counts[split] = len(pairs)
    for counted in of_whole.values():
        if counted.messages:
            watch.note(counted.summary())
    return counts


def open_feature_stage(recipe: dict[str, Any], split: str, device: str, number: int, backend: str) -> Stage:
    """One stage of `fill_cache` opened in a worker."""
    loaded = Recipe.parse(recipe, place="recipe")
    towers, sources = _open(loaded, torch.device(device), inference=backend)
    return _stages(loaded, towers, sources[split], split)[number]


def _stages(recipe: Recipe, towers: FrozenTowers, source: Source, split: str) -> list[Stage]:
    """Of a split's images, and of its captions where training caches those too."""
    exact = split != "train"
    views = (None if exact else _first_cache(recipe)) or CacheConfig()
    stages = [towers.image_stage(source, views, seed=recipe.seed, for_scores=exact)]
    return [*stages, towers.text_stage(source, for_scores=exact)] if recipe.caches_texts else stages


def _open(
    recipe: Recipe, device: torch.device, *, inference: str = "auto", watch: Watch = SILENT
) -> tuple[FrozenTowers, dict[str, Source]]:
    """The towers as training builds them, and the sources whose features it caches."""
    train, val = open_data(recipe.data, watch)
    sources = {"train": train, "val": val}
    if recipe.data.test is not None and len(recipe.stages) == 1:  # later stages give the towers other weights
        sources["test"] = recipe.data.test.open()
    torch.manual_seed(recipe.seed)
    tokenizer, model = starting_model(recipe, train)
    return frozen_towers(recipe, tokenizer, model, train, device, inference=inference), sources


def _first_cache(recipe: Recipe) -> CacheConfig | None:
    """Of the first stage, whose features exist before training; of later ones the towers are not known yet."""
    return next(iter(recipe.stages.values())).cache
