"""How fast a recipe trains on a machine: from a record, a published run, or an estimate."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pocketclip.cost.plan import Throughput, estimated_throughput, find_hardware, published_run
from pocketclip.errors import UserError
from pocketclip.files import shipped
from pocketclip.recipe import Recipe
from pocketclip.records import Provenance
from pocketclip.train.config import TrainConfig


def known_throughput(
    recipe: Recipe, name: str, hardware_name: str, *, changes: Sequence[str], num_items: int, samples_seen: int
) -> Throughput:
    """Samples a second over a whole run: measured and on record, else published, else estimated.

    A record must have the same `changes` of the recipe, and a published run has none.
    """
    hardware = find_hardware(hardware_name)
    recorded = []
    for place in sorted(shipped("results").glob("*.json")):  # some are of `benchmarks/recipe.py`
        record = json.loads(place.read_text(encoding="utf-8"))
        is_of_it = [record.get(key) for key in ("kind", "recipe", "changes")] == ["recipe", name, list(changes)]
        if is_of_it and hardware.fits(record["hardware"]):
            recorded.append(_recorded(recipe, place, record, num_items, samples_seen))
    if recorded:
        return min(recorded, key=lambda rate: rate.beside_other_work)  # the first of a machine that did nothing else
    published = published_run(name, hardware_name)
    if published is not None and not changes:
        source = (
            f"published: {published.hours} h for {published.num_epochs:g} x {published.samples_per_epoch:,} samples "
            f"({published.source})"
        )
        return Throughput.exactly(published.throughput, "published", source)
    if hardware.peak_teraflops is None:
        raise UserError(
            f"{name}: no speed is on record for this machine ({hardware.description}); give --throughput, or --measure."
        )
    return estimated_throughput(training_flops(recipe, num_items) / samples_seen, hardware.peak_teraflops)


def _recorded(recipe: Recipe, place: Path, record: dict[str, Any], num_items: int, samples_seen: int) -> Throughput:
    """Of the whole command, from nothing; its time grows with the number of steps."""
    steps = sum(stage.total_steps(num_items // stage.batch_size) for stage in recipe.stages.values())
    recorded = record["runs"][0]["num_steps"]
    seconds = record["wall_seconds_median"] * steps / recorded
    source = (
        f"measured: results/{place.name}, {record['wall_seconds_median']} s for {recorded:,} steps and all around "
        f"them, {record['hardware']}, {record['date'][:10]}"
    )
    load = {key: record.get(key) for key in ("other_load", "num_cores")}  # older records have none
    return Throughput.exactly(samples_seen / seconds, "measured", source).beside(Provenance.model_validate(load))


def training_flops(recipe: Recipe, num_items: int) -> float:
    """Floating-point operations of a run without evaluations, two a multiply-accumulate.

    A backward pass costs twice its forward pass; gradient caching and checkpointed activations add a forward pass. On
    cached features the frozen towers run once over each picture's views and, unless it is trained, one text; the heads
    are left out. `num_items` is of one epoch.
    """
    from pocketclip.cost.flops import tower_macs
    from pocketclip.cost.weigh import CAPTION_TOKENS
    from pocketclip.models.build import build_model

    tokens = min(CAPTION_TOKENS, recipe.model.text_encoder.context_length)
    model = build_model(recipe.model, load_pretrained=False)
    model.image_encoder.look_once()
    total = 0
    for stage in recipe.stages.values():
        size = stage.image_size or recipe.model.image_encoder.image_size
        macs = tower_macs(model, image_size=size, context_length=tokens)
        views = 0
        if stage.cache is not None:
            views = stage.cache.num_views(recipe.data.train.open() if stage.cache.views == "stored" else None)
        image = recipe.objective.needs.views * macs["macs_image"]
        total += _stage_macs(stage, image, macs["macs_text"], num_items, views)
    return 2.0 * total


def samples_of_stage(stage: TrainConfig, num_items: int) -> int:
    """Steps times batch size; whole batches only are trained on, and a stage that stops early is counted whole.

    0 of a stage that a budget ends: how many it pays for is known as it runs.
    """
    if stage.budget is not None:
        return 0
    return stage.total_steps(num_items // stage.batch_size) * stage.batch_size


def samples_of_trunk(recipe: Recipe, num_items: int) -> int:
    """Those of a branch that it takes over, earlier stages among them; 0 where it is none."""
    train = recipe.train
    if train.branch is None:
        return 0
    early = sum(samples_of_stage(stage, num_items) for name, stage in recipe.stages.items() if name != "train")
    return early + train.branches_at(train.total_steps(num_items // train.batch_size)) * train.batch_size


def _stage_macs(stage: TrainConfig, image: int, text: int, num_items: int, num_views: int) -> int:
    cached = num_items * num_views * image
    if stage.is_heads_only:
        return cached + num_items * text
    rates = stage.learning_rate
    again = 1 if stage.chunk_size is not None or stage.checkpoint_activations else 0
    passes = [1 if rate is None else 3 + again for rate in (rates.image_encoder, rates.text_encoder)]
    captions = stage.captions_per_image + stage.synthetic_captions_per_image
    towers = (0 if num_views else passes[0] * image) + captions * passes[1] * text
    return cached + samples_of_stage(stage, num_items) * towers
