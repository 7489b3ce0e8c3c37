"""The one place that compares what a method needs with what a recipe brings, and words what is missing."""

from collections.abc import Sequence
from typing import Any

from pocketclip.config import kinds_of
from pocketclip.objectives.config import ObjectiveConfig
from pocketclip.objectives.needs import Teachers, losses_for_several_captions
from pocketclip.objectives.strategies import check_strategies

PAIR_SOURCES = ("nlvr2", "scene_pairs")
"""Kinds of sources that give pairs, as messages name them; this folder may not ask the sources themselves."""
PERSON_SOURCES = ("cuhk_pedes", "icfg_pedes", "rstp_reid", "person_table", "pedestrians")
"""Kinds that always tell who is on a picture, likewise."""


def check_fit(recipe: Any) -> None:
    """Refuse a recipe whose data, model, teachers or stages do not serve its objective.

    It takes a `Recipe`, or what has its sections: that type stands above this folder.

    Raises:
        ValueError: what is missing, or has no effect, and what to do.
    """
    _check_captions_and_bias(recipe)
    _check_what_teachers_know(recipe)
    _check_layer_queue_and_views(recipe)
    _check_identities(recipe)
    if recipe.objective.needs.pairs:
        _check_pairs(recipe)
    else:
        _check_no_pairs(recipe)
        _check_cache(recipe)
    _check_teachers_are_there_and_heard(recipe)
    check_strategies(recipe)


def _check_captions_and_bias(recipe: Any) -> None:
    needs, train, bias = recipe.objective.needs, recipe.train, recipe.model.logit_bias
    many = any(stage.captions_per_image + stage.synthetic_captions_per_image > 1 for stage in recipe.stages.values())
    if many and needs.captions == "one":
        raise ValueError(
            f"objective.loss.kind {needs.loss} takes one caption an image; "
            f"use {losses_for_several_captions()} with captions_per_image above 1"
        )
    if needs.bias and bias is None:
        start = f"-ln(batch_size - 1), for batches of {train.batch_size}"
        raise ValueError(f"a {needs.loss} loss needs model.logit_bias; start it at {start}")
    if bias is not None and not needs.bias:
        raise ValueError(f"model.logit_bias has no effect with a {needs.loss} loss; leave it out")


def _check_what_teachers_know(recipe: Any) -> None:
    kind, needs = recipe.objective.kind, recipe.objective.needs
    for teacher in recipe.teachers:
        if needs.teachers == "captions" and "captions" not in teacher.knows:
            raise ValueError(
                f"teachers: {teacher.kind} {teacher.name} knows images only, and objective.kind {kind} asks about "
                "captions too; choose a bundle, open_clip or huggingface teacher, or objective.kind "
                f"{_either(_kinds_that_ask('images'))}"
            )
    if needs.teachers == "classes" and not any("classes" in teacher.knows for teacher in recipe.teachers):
        raise ValueError(
            f"objective.{needs.setting} compares classes, so it needs live teachers: [{{kind: timm, "
            "feature: logits, ...}]; embeddings are for mse and contrastive"
        )


def _check_layer_queue_and_views(recipe: Any) -> None:
    kind, needs = recipe.objective.kind, recipe.objective.needs
    if needs.hidden_layer and recipe.model.shared_encoder is None:
        raise ValueError(
            f"objective.{needs.hidden_layer}: hidden is a layer of model.shared_encoder, which this model has not; "
            "give it one, or leave hidden out"
        )
    for name, stage in recipe.stages.items():
        if needs.queue is not None and needs.queue[1] < stage.batch_size:
            setting, size = needs.queue
            raise ValueError(
                f"objective.{setting}: {size} is less than {name}.batch_size, {stage.batch_size}; a queue takes in a "
                "whole batch at once, so make it larger, or 0 for none"
            )
    if needs.labels and "classes" not in recipe.data.train.gives:
        raise ValueError(f"objective.kind {kind} learns from classes, which data.train does not give")
    if needs.views > 1 and "stored_views" in recipe.data.train.gives:
        raise ValueError(f"objective.kind {kind} draws {needs.views} views of an image; read the shards as webdataset:")


def _check_identities(recipe: Any) -> None:
    kind, needs = recipe.objective.kind, recipe.objective.needs
    if not needs.identities:
        return
    for name, source in _sources(recipe).items():
        if "identities" not in source.gives:
            raise ValueError(
                f"objective.kind {kind} needs identities, and data.{name}, of kind {source.kind}, tells of none; take "
                f"{_either(PERSON_SOURCES)}, or webdataset, csv or parquet data that say who is on each picture"
            )
    if needs.mask_rate and recipe.model.shared_encoder is not None:
        raise ValueError(
            "objective.terms: masked_language does not go with model.shared_encoder; leave one of them out"
        )


def _check_no_pairs(recipe: Any) -> None:
    for name, source in _sources(recipe).items():
        if "choices" in source.gives:
            raise ValueError(
                f"data.{name}: some of its captions are false, so nothing learns from them; measure a model on it with "
                "`pocketclip evaluate MODEL --task sugarcrepe`, winoground or aro"
            )
        if "pairs" in source.gives:
            judges = _either([kind for kind, method in kinds_of(ObjectiveConfig).items() if method.judges_pairs])
            raise ValueError(f"data.{name}: a sentence about two images is for objective.kind {judges} only")
    if recipe.model.pair_head is not None:
        raise ValueError(f"model.pair_head has no effect with objective.kind {recipe.objective.kind}; leave it out")


def _check_pairs(recipe: Any) -> None:
    kind = recipe.objective.kind
    if recipe.data.val is None:
        raise ValueError(f"objective.kind {kind} needs data.val: held-out images would lose their partners")
    for name, source in _sources(recipe).items():
        if "pairs" not in source.gives:
            raise ValueError(f"objective.kind {kind} needs data.{name} of kind {' or '.join(PAIR_SOURCES)}")
    if recipe.model.pair_head is None or recipe.train.learning_rate.heads is None:
        raise ValueError(f"objective.kind {kind} trains model.pair_head, so give one, and train.learning_rate.heads")
    _check_cache(recipe)
    for name, stage in recipe.stages.items():
        if (stage.captions_per_image, stage.epoch) != (1, "images"):
            raise ValueError(
                f"objective.kind {kind} has a sentence an example: {name}.captions_per_image 1, {name}.epoch images"
            )


def _check_cache(recipe: Any) -> None:
    kind, needs = recipe.objective.kind, recipe.objective.needs
    uncached = needs.uncached or ("several views" if needs.views > 1 else "")
    if uncached and any(stage.cache is not None for stage in recipe.stages.values()):
        raise ValueError(f"objective.kind {kind} needs {uncached}, which no cache keeps; leave out cache, heads_first")


def _check_teachers_are_there_and_heard(recipe: Any) -> None:
    kind, needs, stored = recipe.objective.kind, recipe.objective.needs, "stored_views" in recipe.data.train.gives
    if needs.asks_teachers and not stored and not recipe.teachers:
        raise ValueError(
            f"objective.kind {kind} learns from teachers: name some in a teachers section, or train on "
            "data.train: reinforced:DIR, which `pocketclip reinforce` writes"
        )
    if recipe.teachers and not needs.asks_teachers:
        silent = f" with {needs.setting}" if needs.setting else ""
        raise ValueError(
            f"teachers have no effect with objective.kind {kind}{silent}; leave them out, or choose "
            f"{_either(_kinds_that_ask('images', 'captions'))}"
        )
    if recipe.teachers and stored:
        raise ValueError(
            "data.train: reinforced:DIR brings its own teachers; leave the teachers section out, or read the same "
            "shards as webdataset: to ask live ones"
        )
    if needs.asks_teachers:
        _check_cached_views_were_taught(recipe)


def _check_cached_views_were_taught(recipe: Any) -> None:
    kind = recipe.objective.kind
    for name, stage in recipe.stages.items():
        if stage.cache is None:
            continue
        if stage.cache.views != "stored":
            raise ValueError(
                f"{name}.cache keeps the student's features of views that no teacher was asked about; with "
                f"objective.kind {kind} take reinforced data and cache: {{views: stored}}, or leave it out"
            )
        if stage.is_heads_only:
            raise ValueError(
                f"objective.kind {kind} with {name}.cache needs a trained text tower: give "
                f"{name}.learning_rate.text_encoder, or leave {'it' if name == 'heads_first' else 'the cache'} out"
            )


def _sources(recipe: Any) -> dict[str, Any]:
    sources = {name: getattr(recipe.data, name) for name in ("train", "val", "test")}
    return {name: source for name, source in sources.items() if source is not None}


def _kinds_that_ask(*what: Teachers) -> list[str]:
    return [kind for kind, method in kinds_of(ObjectiveConfig).items() if method.may_ask in what]


def _either(words: Sequence[str]) -> str:
    """As a message offers a choice: `a, b or c`."""
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
