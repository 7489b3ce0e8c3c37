"""What a stage's strategy makes of the model and of the order of the data while the stage lasts."""

import copy
import hashlib
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

from pocketclip import distributed
from pocketclip.data.batches import BatchPlan, Captions, identity_plan, neighbour_plan
from pocketclip.errors import UserError
from pocketclip.features.cache import CacheConfig
from pocketclip.features.pairs import CachedPairs
from pocketclip.image_size import height_and_width, written
from pocketclip.preprocess import PreprocessConfig
from pocketclip.recipe import place_of_stage
from pocketclip.run.state import Run
from pocketclip.stages.store import Block
from pocketclip.train.config import TrainConfig


@contextmanager
def tower_of_stage(run: Run, config: TrainConfig) -> Iterator[None]:
    """Within, the image tower takes the pictures, and sees the patches, that the stage gives it.

    Raises:
        UserError: it cannot.
    """
    tower = run.model.image_encoder
    with ExitStack() as stack:
        if config.image_size is not None:
            stack.enter_context(tower.at_any_size())
        if config.keep_patches is not None:
            stack.enter_context(tower.on_patches(config.keep_patches))
        yield


def check_towers(run: Run) -> None:
    """Refuse, before the first stage, a size or a strategy that the image tower cannot take in any of them.

    Raises:
        UserError: which stage, and why.
    """
    for name, config in run.recipe.stages.items():
        size = config.image_size
        if size is None and config.keep_patches is None:
            continue
        tower = copy.deepcopy(run.model.image_encoder).eval()
        where = place_of_stage(name)
        if config.keep_patches is not None:
            try:
                with tower.on_patches(config.keep_patches):
                    pass
            except UserError as error:
                raise UserError(f"{where}.{error}") from error
        if size is None:
            continue
        try:
            with torch.inference_mode(), tower.at_any_size():
                tower(torch.zeros(1, 3, *height_and_width(size), dtype=torch.uint8, device=run.device))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise UserError(
                f"{where}.image_size: {written(size)} does not suit the image tower, whose own size is "
                f"{written(run.preprocess.image_size)} ({error})."
            ) from error


def preprocess_of(run: Run, config: TrainConfig) -> PreprocessConfig:
    """The tower's own, or at the stage's size where it has one."""
    size = config.image_size
    return run.preprocess if size is None else run.preprocess.model_copy(update={"image_size": size})


def plan_of_pairs(run: Run, config: TrainConfig, plan: BatchPlan, pairs: CachedPairs) -> BatchPlan:
    """The plan of a stage on cached features; with hard negatives those features say what is near."""
    if config.identity_batches is not None:
        assert run.identities is not None
        return identity_plan(plan, run.identities.values[pairs.indices], config.identity_batches.views)
    if config.hard_negatives is None:
        return plan
    features = np.asarray(pairs.images[pairs.rows, 0], dtype=np.float32)
    rows = np.arange(len(pairs))
    return _agreed(neighbour_plan(plan, features, rows, pairs.pictures, config.hard_negatives.group))


def plan_of_source(
    run: Run, name: str, config: TrainConfig, plan: BatchPlan, captions: Captions, images: Block | None
) -> BatchPlan:
    """The plan of a stage on pictures; with hard negatives the image tower, as it is now, says what is near.

    A resumed stage begins with the same weights, and so finds the features it had in the cache. With identity batches
    the source says who is on each picture.
    """
    if config.identity_batches is not None:
        assert run.identities is not None
        shown = run.identities.values[[captions.image_of(number) for number in range(plan.num_samples)]]
        return identity_plan(plan, shown, config.identity_batches.views)
    if config.hard_negatives is None:
        return plan
    if images is None:
        started = time.perf_counter()
        images = run.towers(config).images(run.train_source, CacheConfig(), run.broken, seed=run.recipe.seed)
        run.towers_changed()  # the stage trains them
        run.seconds[f"{name}_neighbours"] = time.perf_counter() - started
    rows = np.full(len(run.train_source), -1, dtype=np.int64)
    rows[images["indices"]] = np.arange(len(images["indices"]))
    features, pictures = images["features"][:, 0], np.asarray(images["pictures"])
    return _agreed(neighbour_plan(plan, features, rows, pictures, config.hard_negatives.group))


def _agreed(plan: BatchPlan) -> BatchPlan:
    """The plan, once every rank has the same: their shares of a batch come from one order."""
    orders = distributed.gather_objects(hashlib.sha256(plan.order(0).tobytes()).hexdigest())
    if len(set(orders)) > 1:
        raise UserError(
            "hard_negatives: the ranks found other neighbours, since their features differ; give all of them one cache "
            "folder ($POCKETCLIP_CACHE), which holds the same features for each."
        )
    return plan
