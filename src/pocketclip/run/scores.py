"""What a run's model scores on a split: quickly during training, and with intervals at the end."""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from pocketclip import distributed
from pocketclip.data import Source
from pocketclip.data.batches import BatchPlan
from pocketclip.evaluate.loss import mean_loss
from pocketclip.features.cache import CacheConfig
from pocketclip.features.encode import Embeddings
from pocketclip.features.pairs import CachedPairs, cached_batches
from pocketclip.features.towers import features_in_memory, texts_in_memory
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.pair_head import judge_of
from pocketclip.models.running.precision import Precision, precision_of_scores
from pocketclip.models.running.runner import Runner, project
from pocketclip.records import EvalResult, write_record
from pocketclip.run.state import Run
from pocketclip.train.config import TrainConfig


@dataclass(frozen=True)
class EvaluatedSplit:
    """A split with the model's embeddings of it."""

    source: Source
    embeddings: Embeddings
    result: EvalResult


def frozen_features(run: Run, source: Source, stage: TrainConfig) -> CachedPairs:
    """Of towers that no stage trains, through the cache, as exact as scores ask for."""
    return run.towers(stage).features(source, CacheConfig(), run.broken_of(source), for_scores=True)


def trained_features(
    run: Run, model: DualEncoder, source: Source, stage: TrainConfig, precision: Precision
) -> CachedPairs:
    """Of towers as they are now; of the image tower through the cache where the stage leaves it alone."""
    size = run.preprocess.image_size
    runner = Runner(model, device=run.device, precision=precision, image_size=size, heads=False)
    if stage.cache is not None:
        images = run.towers(stage).images(source, CacheConfig(), run.broken_of(source), for_scores=True)
        return CachedPairs.join(images, texts_in_memory(runner, source, run.tokenizer), source.place)
    pairs = features_in_memory(runner, source, run.tokenizer, run.preprocess)
    run.broken_of(source).add(pairs.broken)
    return pairs


def quick_scores(run: Run, heads: DualEncoder, pairs: CachedPairs, config: TrainConfig) -> dict[str, float]:
    """What is measured during training: the task's scores without intervals, and the objective's loss."""
    heads = heads.to(run.device).eval()
    scores = run.task.points(embed_pairs(heads, pairs, run.device), run.val_source, judge_of(heads.pair_head))
    if "val_loss" in scores:
        return scores
    plan = BatchPlan(len(pairs), min(config.batch_size, len(pairs)), 0)
    objective = run.recipe.objective
    batches = cached_batches(pairs, plan, range(plan.steps_per_epoch), validation_captions(run, config))
    return {**scores, **mean_loss(heads, objective.validation.build(), (batch.to(run.device) for batch in batches))}


def validation_captions(run: Run, config: TrainConfig) -> int:
    """Captions an image in the batches of the validation loss."""
    objective = run.recipe.objective
    return config.captions_per_image if objective.validation == objective else 1


def evaluate_split(run: Run, split: str, source: Source) -> EvaluatedSplit:
    """The task's scores with intervals, recorded."""
    started = time.perf_counter()
    train = run.recipe.train
    exact = precision_of_scores(train.precision)
    pairs = (
        frozen_features(run, source, train)
        if train.is_heads_only
        else trained_features(run, run.model, source, train, exact)
    )
    heads = run.model.heads_only().to(run.device).eval()
    embeddings = replace(embed_pairs(heads, pairs, run.device), hubs=run.hubs)
    result = run.task.result(embeddings, source, judge_of(heads.pair_head), split=split)
    notes = [*result.notes, *run.notes.get(split, [])]
    result = result.model_copy(
        update={
            "notes": notes,
            "seed": run.recipe.seed,
            "recipe_hash": run.recipe.fingerprint(),
            "settings": run.task.settings,
        }
    )
    distributed.on_main(lambda: write_record(result, run.folder, f"{result.task}_{split}"))
    run.seconds[f"evaluation_{split}"] = time.perf_counter() - started
    return EvaluatedSplit(source, embeddings, result)


def embed_pairs(heads: DualEncoder, pairs: CachedPairs, device: torch.device) -> Embeddings:
    """Embeddings of all pairs from their features, view 0 of each image, block by block."""
    images = project(heads.image_head, pairs.images[:, 0], device, pairs.rows)
    captions = np.concatenate(
        [first + np.arange(count) for first, count in zip(pairs.first_caption, pairs.num_captions, strict=True)]
    )
    texts = project(heads.text_head, pairs.texts, device, captions)
    owners = np.repeat(np.arange(len(pairs)), pairs.num_captions)
    return Embeddings(images, texts, owners, pairs.indices, pairs.broken, pairs.pictures, pairs.caption_ids[captions])
