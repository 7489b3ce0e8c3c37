"""Fits a recipe to data that are smaller than it was written for: `fit_small_data` asks for it."""

from itertools import islice

from pocketclip.data import Source
from pocketclip.data.identity import perceptual_hashes
from pocketclip.data.source import readable_captions
from pocketclip.errors import TooFewError
from pocketclip.recipe import Recipe
from pocketclip.run.data import open_data, open_training
from pocketclip.stages.watch import SILENT, Watch
from pocketclip.train.config import TrainConfig

FEWEST = 8
"""Pictures that anything can be learned from and measured on."""
HELD_OUT, LARGEST_SHARE = 4, 0.25
"""Pictures that are held out at least, and the share of all that they are at most."""


def fit_to_data(recipe: Recipe, watch: Watch = SILENT) -> tuple[Recipe, str | None]:
    """A recipe with the batches and the share held out that its data allow, and a note where they are others.

    Only with `fit_small_data`; the recipe that comes back is a plain one. Pictures count that can be read and have a
    caption; fewer than 8 are a UserError.
    """
    if not recipe.fit_small_data:
        return recipe, None
    data, plain = recipe.data, recipe.model_copy(update={"fit_small_data": False})
    source = open_training(data)
    enough = 2 * max(stage.batch_size for stage in recipe.stages.values()) / (1 - data.hold_out)
    count = _count_usable(source, watch, round(enough))
    if count >= round(enough) and data.subset is None:
        return plain, None
    _refuse_too_few(source, count)
    share = data.hold_out
    if data.val is None and count < round(enough):
        share = max(share, fewest_held_out(count) / count)
        plain = plain.model_copy(update={"data": data.model_copy(update={"hold_out": share})})
    part, held = open_data(plain.data, watch)
    if data.subset is not None:
        count = _count_usable(part, watch, len(part))
        _refuse_too_few(part, count)
    plain = _with_batches(plain, _count_usable(part, watch, count))
    if (plain.train.batch_size, share) == (recipe.train.batch_size, data.hold_out):
        return plain, None
    note = (
        f"the recipe was fitted to {count} pictures: {len(part)} to learn from, in batches of "
        f"{plain.train.batch_size}, and {len(held)} to be measured on. On so few, a score says little"
    )
    watch.note(note)
    return plain, note


def fewest_held_out(count: int) -> float:
    """Of so many pictures."""
    return min(HELD_OUT, LARGEST_SHARE * count)


def _refuse_too_few(source: Source, count: int) -> None:
    if count < FEWEST:
        raise TooFewError(
            f"{source.name}: {count} of {len(source)} pictures can be read and have a caption, too few to learn from "
            f"and to be measured on. Bring at least {FEWEST} of them; some hundreds give a model worth having."
        )


def fit_batches(recipe: Recipe, num_items: int) -> Recipe:
    """The same for data that are not here, of which an epoch's number of items is known."""
    return _with_batches(recipe, num_items) if recipe.fit_small_data and num_items >= FEWEST else recipe


def items_of_epoch(source: Source, stage: TrainConfig) -> int:
    """What an epoch passes over: the images, or every caption with its image."""
    return sum(map(len, readable_captions(source))) if stage.epoch == "captions" else len(source)


def _with_batches(recipe: Recipe, num_items: int) -> Recipe:
    """No stage's batch is larger than an epoch."""

    def smaller(stage: TrainConfig) -> TrainConfig:
        return stage.model_copy(update={"batch_size": min(stage.batch_size, num_items)})

    return recipe.model_copy(
        update={
            "heads_first": None if recipe.heads_first is None else smaller(recipe.heads_first),
            "early_stages": tuple(map(smaller, recipe.early_stages)),
            "train": smaller(recipe.train),
        }
    )


def _count_usable(source: Source, watch: Watch, at_most: int) -> int:
    """Pictures that can be read and have a caption; no more are counted than asked for."""
    if len(source) > at_most:  # the first ones will do, without opening any
        return sum(1 for _ in islice(filter(None, readable_captions(source)), at_most))
    readable = [True] * len(source) if source.drawn else perceptual_hashes(source, watch)[1].tolist()
    return sum(bool(captions) and good for captions, good in zip(readable_captions(source), readable, strict=True))
