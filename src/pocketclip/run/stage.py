"""One stage of a recipe, from a source to a trained model."""

import time
from collections.abc import Iterator, Mapping

from torch import nn

from pocketclip import distributed
from pocketclip.data.batches import BatchPlan, DrawnCaptions, EachCaption, TrainingBatches, views_of
from pocketclip.data.pictures.augment import SIMCLR_VIEWS
from pocketclip.features.pairs import cached_batches
from pocketclip.hardware import return_freed_memory
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.recipe import place_of_stage
from pocketclip.run.branch import take_up
from pocketclip.run.budget import within_budget
from pocketclip.run.learning import Learning
from pocketclip.run.people import told_apart
from pocketclip.run.scores import frozen_features, quick_scores, trained_features
from pocketclip.run.state import Run
from pocketclip.run.strategies import plan_of_pairs, plan_of_source, preprocess_of, tower_of_stage
from pocketclip.train.budget import CountedSteps
from pocketclip.train.config import TrainConfig
from pocketclip.train.loop import Batches, Evaluate, Trainer
from pocketclip.train.progress import Progress
from pocketclip.types import ImageTextBatch


def train_stage(run: Run, name: str, config: TrainConfig) -> Progress:
    """Train the model of a run for one of its recipe's stages."""
    progress = _train_heads(run, name, config) if config.is_heads_only else _train_towers(run, name, config)
    return_freed_memory()
    return progress


def _train_heads(run: Run, name: str, config: TrainConfig) -> Progress:
    """Heads over the stored features of frozen towers."""
    assert config.cache is not None
    started = time.perf_counter()
    pairs = run.towers(config).features(run.train_source, config.cache, run.broken, seed=run.recipe.seed)
    val = frozen_features(run, run.val_source, config)
    run.seconds[f"{name}_features"] = time.perf_counter() - started
    run.num_captions = int(pairs.num_captions.sum())
    key = f"{place_of_stage(name)}.batch_size"
    plan = plan_of_pairs(run, config, BatchPlan(len(pairs), config.batch_size, run.recipe.seed, key), pairs)
    config, budget = within_budget(run, name, config, plan)

    def batches(start: int) -> Iterator[ImageTextBatch]:
        steps = range(start, config.total_steps(plan.steps_per_epoch))
        share = plan.share(distributed.rank(), distributed.world_size())
        return cached_batches(pairs, plan, steps, config.captions_per_image, share)

    def evaluate(model: nn.Module) -> Mapping[str, float]:
        assert isinstance(model, DualEncoder)
        return quick_scores(run, model, val, config)

    return _train(run, name, config, run.model.heads_only(), batches, evaluate, plan, budget)


def _train_towers(run: Run, name: str, config: TrainConfig) -> Progress:
    """Whole towers over decoded pictures, or the text tower alone with stored features of the images."""
    model, source, images = run.model, run.train_source, None
    if config.cache is not None:
        started = time.perf_counter()
        model = run.model.without_image_tower()
        images = run.towers(config).images(source, config.cache, run.broken, seed=run.recipe.seed)
        run.seconds[f"{name}_features"] = time.perf_counter() - started
    if config.checkpoint_activations:
        model.checkpoint_activations()
    if config.compile:
        model.compile_for_training()
    num_synthetic = config.synthetic_captions_per_image
    captions: DrawnCaptions | EachCaption = DrawnCaptions(config.captions_per_image, num_synthetic)
    if config.epoch == "captions":
        captions = EachCaption.of(source, num_synthetic)
        run.num_captions = captions.num_items(source)
    key = f"{place_of_stage(name)}.batch_size"
    plan = BatchPlan(captions.num_items(source), config.batch_size, run.recipe.seed, key)
    plan = plan_of_source(run, name, config, plan, captions, images)
    with tower_of_stage(run, config):
        config, budget = within_budget(run, name, config, plan)
    seen = TrainingBatches(
        source,
        plan,
        captions=captions,
        views=views_of(
            source,
            config.augment,
            preprocess_of(run, config),
            images,
            num_views=run.recipe.objective.needs.views,
            augment_further=config.augment_further or SIMCLR_VIEWS,
        ),
        tokenizer=run.tokenizer,
        teachers=run.teaching.brought,
        text_tokens=config.text_tokens,
        masking=run.masking,
    )

    def batches(start: int) -> Iterator[ImageTextBatch]:
        return seen.steps(
            start,
            config.total_steps(plan.steps_per_epoch),
            num_workers=config.num_workers,
            pin_memory=run.device.type == "cuda",
            share=plan.share(distributed.rank(), distributed.world_size()),
        )

    def evaluate(model: nn.Module) -> Mapping[str, float]:
        assert isinstance(model, DualEncoder)
        pairs = trained_features(run, model, run.val_source, config, config.precision)
        return quick_scores(run, model.heads_only(), pairs, config)

    with tower_of_stage(run, config):
        progress = _train(run, name, config, model, batches, evaluate, plan, budget)
    if name != "train":
        run.towers_changed()
    return progress


def _train(
    run: Run,
    name: str,
    config: TrainConfig,
    model: DualEncoder,
    batches: Batches,
    evaluate: Evaluate,
    plan: BatchPlan,
    budget: CountedSteps,
) -> Progress:
    take_up(run, config, plan.steps_per_epoch)
    learning = Learning(run, name, config, config.total_steps(plan.steps_per_epoch))

    def evaluate_and_look(model: nn.Module) -> Mapping[str, float]:
        scores = evaluate(model)
        learning.expect(trainer.plan)
        learning.look(scores)
        return scores

    trainer = Trainer(
        name,
        model.to(run.device),
        run.objective,
        lambda start: learning.looked_at(told_apart(batches(start), run.identities), start),
        config,
        steps_per_epoch=plan.steps_per_epoch,
        evaluate=evaluate_and_look,
        folder=run.folder,
        seed=run.recipe.seed,
        watch=run.broken,
        teach=run.teaching.live,
        with_profile=run.with_profile,
        with_sharding=run.with_sharding,
        spent=run.spent,
        budget=budget,
        until=run.until if name == "train" else 1.0,
    )
    progress = trainer.run(resume=run.resume)
    learning.expect(trainer.plan)
    learning.finish()
    if behind := [step for step in config.keep_steps if step > progress.step]:  # a time or a patience ended it
        message = f"{name}.keep_steps: the run ended at step {progress.step}, before {', '.join(map(str, behind))}"
        run.watch.note(message)
        run.notes["train"].append(message)
    run.stage_began = progress.spent
    run.macs_spent[name] = run.macs_per_sample[name] * progress.step * config.batch_size
    run.seconds |= {f"{name}_{phase}": seconds for phase, seconds in progress.seconds.items()}
    run.earlier_seconds += trainer.earlier_seconds
    run.seconds_per_epoch[f"{name}_train"] = progress.seconds["train"] / progress.step * plan.steps_per_epoch
    if progress.num_evaluations:
        run.seconds_per_epoch[f"{name}_validate"] = progress.seconds["validate"] / progress.num_evaluations
    return progress
