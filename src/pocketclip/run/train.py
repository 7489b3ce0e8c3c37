"""Carries out a recipe: data, model, stages of training, evaluation, bundle."""

import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pocketclip import distributed
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.cost.energy import Energy, measure_energy
from pocketclip.cost.price import price_dollars
from pocketclip.data import Source
from pocketclip.data.batches import BatchPlan, DrawnCaptions, EachCaption, TrainingBatches, views_of
from pocketclip.errors import UserError
from pocketclip.evaluate.loss import mean_loss
from pocketclip.evaluate.tasks import embedding_task
from pocketclip.features.cache import CacheConfig, cache_folder
from pocketclip.features.encode import Embeddings
from pocketclip.features.pairs import CachedPairs, cached_batches
from pocketclip.features.towers import FrozenTowers, features_in_memory, texts_in_memory
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.pair_head import judge_of
from pocketclip.models.running.precision import Precision, precision_of_scores, resolve_device
from pocketclip.models.running.runner import Runner, project
from pocketclip.preprocess import PreprocessConfig
from pocketclip.recipe import Recipe
from pocketclip.records import EvalResult, RunRecord, write_record
from pocketclip.run.card import model_card
from pocketclip.run.setup import check_ranks_agree, open_data, prepare_folder, recipe_hash, starting_model
from pocketclip.run.teaching import open_teaching
from pocketclip.stages.store import Block
from pocketclip.stages.watch import BrokenItems, Watch
from pocketclip.train import Batches, Evaluate, Progress, TrainConfig, Trainer
from pocketclip.train.config import EarlyStageConfig
from pocketclip.types import ImageTextBatch


@dataclass(frozen=True)
class EvaluatedSplit:
    """A split with the model's embeddings of it."""

    source: Source
    embeddings: Embeddings
    result: EvalResult


@dataclass(frozen=True)
class Outcome:
    """What a run leaves behind."""

    folder: Path
    model: PretrainedModel
    splits: dict[str, EvaluatedSplit]
    """`val`, and `test` where the recipe has one."""
    record: RunRecord


def train(
    recipe: Recipe,
    folder: Path,
    *,
    name: str,
    watch: Watch,
    resume: bool = False,
    device: str = "auto",
    dollars_per_hour: float | None = None,
    with_energy: bool = False,
    with_profile: bool = False,
    with_sharding: bool = False,
) -> Outcome:
    """Train, evaluate and write the bundle to `folder/bundle`.

    Within `distributed.started` every rank calls this with the same arguments; rank 0 writes the files.

    Args:
        recipe: what to do.
        folder: of the run; new, empty, or with `resume` one that was begun with the same recipe.
        name: of the run, for records and the card.
        watch: told of all that goes on.
        resume: go on from the newest checkpoint.
        device: `cpu`, `cuda` or `auto`.
        dollars_per_hour: of this machine; adds the price of the run to its record.
        with_energy: measure the energy of the run with codecarbon.
        with_profile: write where the time of some early steps of each stage went to `folder/profile`.
        with_sharding: several ranks spread the weights (FSDP2) instead of holding all of them each (DDP).

    Raises:
        UserError: anything the user can fix.
        Interrupted: Ctrl-C or SIGTERM; `resume` goes on.
    """
    on = resolve_device(device)
    check_ranks_agree(recipe, on)
    distributed.on_main(lambda: prepare_folder(recipe, folder, resume=resume))
    run = _Run(recipe, folder, watch, resume, on, with_profile=with_profile, with_sharding=with_sharding)
    return run.carry_out(name, dollars_per_hour=dollars_per_hour, with_energy=with_energy)


class _Run:
    """The parts of a run that its stages share."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        watch: Watch,
        resume: bool,
        device: torch.device,
        *,
        with_profile: bool,
        with_sharding: bool,
    ) -> None:
        self.recipe, self.folder, self.watch = recipe, folder, watch
        self.resume, self.device = resume, device
        self.with_profile, self.with_sharding = with_profile, with_sharding
        self.seconds: dict[str, float] = {}
        self.seconds_per_epoch: dict[str, float] = {}
        self.earlier_seconds = 0.0
        self.started = time.perf_counter()
        self.train_source, self.val_source = open_data(recipe.data)
        self.test_source: Source | None = None if recipe.data.test is None else recipe.data.test.open()
        torch.manual_seed(recipe.seed)
        self.tokenizer, self.model = starting_model(recipe, self.train_source)
        self.model.to(device)
        self.preprocess = self.model.image_encoder.preprocess
        self.teaching = open_teaching(recipe, self.train_source, device)
        self.objective = recipe.objective.build(embed_dim=recipe.model.embed_dim, teacher_widths=self.teaching.widths)
        self.task = embedding_task(recipe.objective.needs.task)
        self.broken = self._broken_items(self.train_source)
        self.num_captions: int | None = None  # known once every caption was read
        self._frozen: FrozenTowers | None = None

    def carry_out(self, name: str, *, dollars_per_hour: float | None, with_energy: bool) -> Outcome:
        """Every stage, then evaluation, record, card and bundle."""
        stages: dict[str, Progress] = {}
        with measure_energy() if with_energy else nullcontext(Energy()) as energy:
            for stage, config in self.recipe.stages.items():
                run_stage = self._cached_stage if config.is_heads_only else self._live_stage
                stages[stage] = run_stage(stage, config)
            splits = {"val": self._final_evaluation("val", self.val_source)}
            if self.test_source is not None:
                splits["test"] = self._final_evaluation("test", self.test_source)
        record = self._record(name, stages, energy, dollars_per_hour)
        model = PretrainedModel(self.model, self.recipe.model, self.tokenizer, self.preprocess)
        results = {split: evaluated.result for split, evaluated in splits.items()}
        card = model_card(name, self.recipe, record, results, self.model)
        distributed.on_main(lambda: model.save_pretrained(self.folder / "bundle", card=card))
        return Outcome(self.folder, model, splits, record)

    def _cached_stage(self, name: str, config: TrainConfig) -> Progress:
        """Heads over the stored features of frozen towers."""
        assert config.cache is not None
        started = time.perf_counter()
        pairs = self._towers().features(self.train_source, config.cache, self.broken, seed=self.recipe.seed)
        val = self._features_for_scores(self.val_source)
        self.seconds[f"{name}_features"] = time.perf_counter() - started
        self.num_captions = int(pairs.num_captions.sum())
        plan = BatchPlan(len(pairs), config.batch_size, self.recipe.seed)
        num_steps = config.total_steps(plan.steps_per_epoch)

        def batches(start: int) -> Iterator[ImageTextBatch]:
            share = plan.share(distributed.rank(), distributed.world_size())
            return cached_batches(pairs, plan, range(start, num_steps), config.captions_per_image, share)

        def evaluate(model: nn.Module) -> Mapping[str, float]:
            assert isinstance(model, DualEncoder)
            return self._quick_evaluation(model, val, config)

        return self._train(name, self.model.heads_only(), config, batches, evaluate, plan.steps_per_epoch)

    def _live_stage(self, name: str, config: TrainConfig) -> Progress:
        """Whole towers over decoded pictures, or the text tower alone with stored features of the images."""
        model, images = self.model, None
        if config.cache is not None:
            model, images = self.model.without_image_tower(), self._image_features(name, config.cache)
        if config.checkpoint_activations:
            model.checkpoint_activations()
        if config.compile:
            model.compile_for_training()
        captions: DrawnCaptions | EachCaption
        captions = DrawnCaptions(config.captions_per_image, config.synthetic_captions_per_image)
        if config.epoch == "captions":
            captions = EachCaption.of(self.train_source, config.synthetic_captions_per_image)
            self.num_captions = captions.num_items(self.train_source)
        plan = BatchPlan(captions.num_items(self.train_source), config.batch_size, self.recipe.seed)
        seen = TrainingBatches(
            self.train_source,
            plan,
            captions=captions,
            views=views_of(self.train_source, config.augment, self._preprocess_of(name, config), images),
            tokenizer=self.tokenizer,
            teachers=self.teaching.brought,
        )
        num_steps = config.total_steps(plan.steps_per_epoch)

        def batches(start: int) -> Iterator[ImageTextBatch]:
            return seen.steps(
                start,
                num_steps,
                num_workers=config.num_workers,
                pin_memory=self.device.type == "cuda",
                share=plan.share(distributed.rank(), distributed.world_size()),
            )

        def evaluate(model: nn.Module) -> Mapping[str, float]:
            assert isinstance(model, DualEncoder)
            pairs = self._trained_features(model, self.val_source, config.precision)
            return self._quick_evaluation(model.heads_only(), pairs, config)

        progress = self._train(name, model, config, batches, evaluate, plan.steps_per_epoch)
        if name != "train":
            self._frozen = None  # a later stage caches what the towers are now
        return progress

    def _preprocess_of(self, name: str, config: TrainConfig) -> PreprocessConfig:
        """The tower's own, or at the stage's size where it has one."""
        size = config.image_size if isinstance(config, EarlyStageConfig) else None
        if size is None:
            return self.preprocess
        tower = copy.deepcopy(self.model.image_encoder).eval()
        try:
            with torch.inference_mode():
                tower(torch.zeros(1, 3, size, size, dtype=torch.uint8, device=self.device))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise UserError(
                f"early_stages.{name}.image_size: {size} does not suit the image tower, whose own size is "
                f"{self.preprocess.image_size} ({error})."
            ) from error
        return self.preprocess.model_copy(update={"image_size": size})

    def _image_features(self, name: str, views: CacheConfig) -> Block:
        """Of the images to train on, through the cache."""
        started = time.perf_counter()
        features = self._towers().images(self.train_source, views, self.broken, seed=self.recipe.seed)
        self.seconds[f"{name}_features"] = time.perf_counter() - started
        return features

    def _train(
        self,
        name: str,
        model: DualEncoder,
        config: TrainConfig,
        batches: Batches,
        evaluate: Evaluate,
        steps_per_epoch: int,
    ) -> Progress:
        trainer = Trainer(
            name,
            model.to(self.device),
            self.objective,
            batches,
            config,
            steps_per_epoch=steps_per_epoch,
            evaluate=evaluate,
            folder=self.folder,
            seed=self.recipe.seed,
            watch=self.broken,
            teach=self.teaching.live,
            with_profile=self.with_profile,
            with_sharding=self.with_sharding,
        )
        progress = trainer.run(resume=self.resume)
        for phase, seconds in progress.seconds.items():
            self.seconds[f"{name}_{phase}"] = seconds
        self.earlier_seconds += trainer.earlier_seconds
        self.seconds_per_epoch[f"{name}_train"] = progress.seconds["train"] / progress.step * steps_per_epoch
        if progress.num_evaluations:
            self.seconds_per_epoch[f"{name}_validate"] = progress.seconds["validate"] / progress.num_evaluations
        return progress

    # Features and evaluation

    def _broken_items(self, source: Source) -> BrokenItems:
        return BrokenItems(len(source), self.recipe.data.max_broken_share, watch=self.watch)

    def _features_for_scores(self, source: Source) -> CachedPairs:
        views, broken = CacheConfig(views=("centre",)), self._broken_items(source)
        return self._towers().features(source, views, broken, for_scores=True)

    def _towers(self) -> FrozenTowers:
        if self._frozen is None:
            self._frozen = FrozenTowers(
                self.model,
                self.tokenizer,
                self.preprocess,
                root=cache_folder(),
                device=self.device,
                precision=self.recipe.train.precision,
                num_images=self._num_images_to_encode(),
                num_texts=self._num_images_to_encode() if self.recipe.caches_texts else 0,
            )
        return self._frozen

    def _num_images_to_encode(self) -> int:
        """For the choice of a backend; there are at least as many texts. Ranks would disturb each other's timing."""
        return len(self.train_source) if distributed.world_size() == 1 else 0

    def _trained_features(self, model: DualEncoder, source: Source, precision: Precision) -> CachedPairs:
        size = self.preprocess.image_size
        runner = Runner(model, device=self.device, precision=precision, image_size=size, heads=False)
        if self.recipe.train.cache is not None:  # the image tower is as it was
            views, broken = CacheConfig(), self._broken_items(source)
            entry = self._towers().images(source, views, broken, for_scores=True)
            return CachedPairs.join(entry, texts_in_memory(runner, source, self.tokenizer))
        pairs = features_in_memory(runner, source, self.tokenizer, self.preprocess)
        self._broken_items(source).add(pairs.broken)
        return pairs

    def _quick_evaluation(self, heads: DualEncoder, pairs: CachedPairs, config: TrainConfig) -> dict[str, float]:
        """What is measured during training: the task's scores without intervals, and the objective's loss."""
        heads = heads.to(self.device).eval()
        scores = self.task.points(embed_pairs(heads, pairs, self.device), self.val_source, judge_of(heads.pair_head))
        if "val_loss" in scores:
            return scores
        size = min(config.batch_size, len(pairs))
        plan = BatchPlan(len(pairs), size, 0)
        objective = self.recipe.objective
        captions = config.captions_per_image if objective.validation == objective else 1
        batches = cached_batches(pairs, plan, range(plan.steps_per_epoch), captions)
        moved = (batch.to(self.device) for batch in batches)
        return {**scores, **mean_loss(heads, objective.validation.build(), moved)}

    def _final_evaluation(self, split: str, source: Source) -> EvaluatedSplit:
        """The task's scores with intervals, recorded."""
        started = time.perf_counter()
        if self.recipe.train.is_heads_only:
            pairs = self._features_for_scores(source)
        else:
            pairs = self._trained_features(self.model, source, precision_of_scores(self.recipe.train.precision))
        heads = self.model.heads_only().to(self.device).eval()
        embeddings = embed_pairs(heads, pairs, self.device)
        result = self.task.result(embeddings, source, judge_of(heads.pair_head), split=split)
        origin = {"seed": self.recipe.seed, "recipe_hash": recipe_hash(self.recipe)}
        result = result.model_copy(update=origin)
        distributed.on_main(lambda: write_record(result, self.folder, f"{result.task}_{split}"))
        self.seconds[f"evaluation_{split}"] = time.perf_counter() - started
        return EvaluatedSplit(source, embeddings, result)

    def _record(
        self, name: str, stages: dict[str, Progress], energy: Energy, dollars_per_hour: float | None
    ) -> RunRecord:
        last = stages["train"]
        total = self.earlier_seconds + time.perf_counter() - self.started
        record = RunRecord(
            name=name,
            seed=self.recipe.seed,
            recipe_hash=recipe_hash(self.recipe),
            num_steps=sum(progress.step for progress in stages.values()),
            num_images=len(self.train_source),
            num_captions=self.num_captions,
            broken_items=list(self.broken.messages),
            seconds={**self.seconds, "total": total},
            seconds_per_epoch=self.seconds_per_epoch,
            metrics=last.evaluation,
            energy_kwh=energy.kwh,
            price_dollars=None if dollars_per_hour is None else price_dollars(total, dollars_per_hour),
        )
        distributed.on_main(lambda: write_record(record, self.folder, "run"))
        return record


def embed_pairs(heads: DualEncoder, pairs: CachedPairs, device: torch.device) -> Embeddings:
    """Embeddings of all pairs from their features, view 0 of each image, block by block."""
    images = project(heads.image_head, pairs.images[:, 0], device, pairs.rows)
    captions = np.concatenate(
        [first + np.arange(count) for first, count in zip(pairs.first_caption, pairs.num_captions, strict=True)]
    )
    texts = project(heads.text_head, pairs.texts, device, captions)
    owners = np.repeat(np.arange(len(pairs)), pairs.num_captions)
    return Embeddings(images, texts, owners, pairs.indices, pairs.broken)
