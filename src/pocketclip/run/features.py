"""The feature cache of a recipe filled ahead of training, by this process or by many."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

from pocketclip.data import Source
from pocketclip.data.source import left_out_lines, whole_of
from pocketclip.errors import UserError
from pocketclip.features.cache import CacheConfig
from pocketclip.features.pairs import CachedPairs
from pocketclip.features.towers import FrozenTowers
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.running.precision import resolve_device
from pocketclip.recipe import Recipe
from pocketclip.run.data import open_data
from pocketclip.run.fit import fit_to_data
from pocketclip.run.setup import frozen_towers, starting_model
from pocketclip.stages.engine import Engine
from pocketclip.stages.store import Stage
from pocketclip.stages.watch import SILENT, BrokenItems, Watch
from pocketclip.tokenizer import Tokenizer
from pocketclip.train.config import TrainConfig


@dataclass(frozen=True)
class Entry:
    """What the cache has of a split."""

    what: Literal["images", "captions"]
    as_finished: bool = False
    """Of images as the trained tower looks at them, where that is more than in training."""


def entries_of(recipe: Recipe, split: str, model: DualEncoder) -> list[Entry]:
    """What a run finds in the cache of a split; of later stages than the first the towers are not known before."""
    captions = [Entry("captions")] if _first(recipe).is_heads_only else []
    if split == "train" or not model.image_encoder.looks_twice:
        return [Entry("images"), *captions]
    in_training = [Entry("images")] if split == "val" else []
    at_the_end = [Entry("images", as_finished=True)] if len(recipe.stages) == 1 else []
    return [*in_training, *at_the_end, *captions]


def stage_of(entry: Entry, recipe: Recipe, towers: FrozenTowers, source: Source, split: str) -> Stage:
    """What makes an entry; `towers` look at pictures as it says."""
    exact = split != "train"
    if entry.what == "captions":
        return towers.text_stage(source, for_scores=exact)
    views = (None if exact else _first(recipe).cache) or CacheConfig()
    return towers.image_stage(source, views, seed=recipe.seed, for_scores=exact)


def fill_cache(recipe: Recipe, engine: Engine, watch: Watch, *, device: str = "auto") -> dict[str, int]:
    """Encode what training with this recipe looks for in the feature cache; the entries are the same to the byte.

    Returns:
        Images, with a caption where captions are encoded too, for `train`, `val`, and `test` where training caches it.

    Raises:
        UserError: the recipe caches nothing, too many broken items, or a full disk.
    """
    if _first(recipe).cache is None:
        raise UserError(
            "train.cache: this recipe trains its towers and caches no features; add a cache or a heads_first section."
        )
    recipe, _ = fit_to_data(recipe, watch)
    on = resolve_device(device)
    sources, tokenizer, model = _open(recipe, watch)
    for line in left_out_lines(*sources.values()):
        watch.note(line)
    entries = {split: entries_of(recipe, split, model) for split in sources}
    towers = {
        look: _towers(recipe, tokenizer, model, sources["train"], on, as_finished=look)
        for look in {entry.as_finished for each in entries.values() for entry in each}
    }
    counts, of_whole = {}, dict[int, BrokenItems]()
    for split, source in sources.items():
        whole, share = whole_of(source), recipe.data.max_broken_share
        counted = of_whole.setdefault(id(whole), BrokenItems(len(whole), share, watch=watch))
        blocks = {}
        for entry in entries[split]:
            model.image_encoder.look_once(not entry.as_finished)
            own = towers[entry.as_finished]
            stage = stage_of(entry, recipe, own, source, split)
            settings = (recipe.model_dump(mode="json"), split, str(on), entry, stage.made_from["backend"])
            blocks[entry.what] = own.cached(stage, counted, engine, partial(open_feature_stage, *settings))
        counts[split] = len(blocks["images"]["indices"])
        if "captions" in blocks:
            pairs = CachedPairs.join(blocks["images"], blocks["captions"], source.place)
            counted.add(pairs.broken)
            counts[split] = len(pairs)
    for counted in of_whole.values():
        if counted.messages:
            watch.note(counted.summary())
    return counts


def open_feature_stage(recipe: dict[str, Any], split: str, device: str, entry: Entry, backend: str) -> Stage:
    """One stage of `fill_cache` opened in a worker."""
    loaded, on = Recipe.parse(recipe, place="recipe"), torch.device(device)
    sources, tokenizer, model = _open(loaded)
    look = entry.as_finished
    towers = _towers(loaded, tokenizer, model, sources["train"], on, as_finished=look, inference=backend)
    return stage_of(entry, loaded, towers, sources[split], split)


def _open(recipe: Recipe, watch: Watch = SILENT) -> tuple[dict[str, Source], Tokenizer, DualEncoder]:
    """The sources whose features training caches, and the model as training builds it."""
    train, val = open_data(recipe.data, watch)
    sources = {"train": train, "val": val}
    if recipe.data.test is not None and len(recipe.stages) == 1:  # later stages give the towers other weights
        sources["test"] = recipe.data.test.open()
    torch.manual_seed(recipe.seed)
    return sources, *starting_model(recipe, train)


def _towers(
    recipe: Recipe,
    tokenizer: Tokenizer,
    model: DualEncoder,
    train: Source,
    on: torch.device,
    *,
    as_finished: bool,
    inference: str = "auto",
) -> FrozenTowers:
    model.image_encoder.look_once(not as_finished)
    return frozen_towers(recipe, _first(recipe), tokenizer, model, train, on, inference=inference)


def _first(recipe: Recipe) -> TrainConfig:
    return next(iter(recipe.stages.values()))
