"""What a run will take, from its recipe and the data it names."""

from pocketclip.data import Source
from pocketclip.data.source import readable_captions
from pocketclip.recipe import Recipe
from pocketclip.run.setup import open_data
from pocketclip.train import TrainConfig


def samples_seen(recipe: Recipe) -> int:
    """Pairs that pass through the model in the whole run: steps times batch size, over its stages.

    Raises:
        UserError: the data cannot be opened.
    """
    train, _ = open_data(recipe.data)
    stages = [stage for stage in (recipe.heads_first, recipe.train) if stage is not None]
    return sum(samples_of_stage(stage, items_of_epoch(train, stage)) for stage in stages)


def items_of_epoch(source: Source, stage: TrainConfig) -> int:
    """What an epoch passes over: the images, or every caption with its image."""
    if stage.epoch == "captions":
        return sum(len(texts) for texts in readable_captions(source))
    return len(source)


def samples_of_stage(stage: TrainConfig, num_items: int) -> int:
    """Steps times batch size.

    Args:
        stage: its epochs and steps; one that stops early is counted whole.
        num_items: of one epoch; whole batches only are trained on.
    """
    return stage.total_steps(num_items // stage.batch_size) * stage.batch_size
