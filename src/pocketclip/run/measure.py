"""A few steps of a recipe on this machine, to know its speed."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pocketclip.cost.plan import Throughput
from pocketclip.data.sources.scenes import ScenesSourceConfig
from pocketclip.errors import UserError
from pocketclip.hardware import describe_hardware
from pocketclip.image_size import height_and_width
from pocketclip.recipe import Recipe
from pocketclip.run.train import train
from pocketclip.stages.watch import SILENT, Watch

NUM_STEPS, NUM_WARM_UP = 8, 3


class _Speeds(Watch):
    """Remembers how fast each step was."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.speeds: list[float] = []

    def step(self, name: str, done: int, total: int, images_per_second: float, metrics: Mapping[str, float]) -> None:
        self.speeds.append(images_per_second)
        self.watch.step(name, done, total, images_per_second, metrics)


def measure_throughput(recipe: Recipe, *, num_steps: int = NUM_STEPS, watch: Watch = SILENT) -> Throughput:
    """Train some steps with the recipe's own model, batch size and objective on drawn pictures; nothing is kept.

    Weights from the hub are left out, which does not change the speed. The range is that of the single steps, of which
    the first `NUM_WARM_UP` do not count. Heads on cached features are done in minutes anyway, so they are refused.
    """
    if recipe.train.cache is not None or recipe.data.train.kind == "reinforced":
        what = "cached features" if recipe.train.cache is not None else "reinforced data"
        raise UserError(f"--measure draws pictures of its own, and this recipe trains on {what}; give --throughput.")
    speeds = _Speeds(watch)
    with tempfile.TemporaryDirectory() as place:
        outcome = train(_small(recipe, num_steps), Path(place) / "run", name="measure", watch=speeds)
    counted = speeds.speeds[NUM_WARM_UP:]
    source = f"measured now: {len(counted)} steps of {recipe.train.batch_size} on drawn pictures, {describe_hardware()}"
    rate = Throughput(
        value=float(np.median(counted)), low=min(counted), high=max(counted), origin="measured", source=source
    )
    return rate.beside(outcome.record.provenance)


def _small(recipe: Recipe, num_steps: int) -> Recipe:
    """The same work on drawn pictures for some steps."""
    size = min(1024, max(height_and_width(recipe.model.image_encoder.image_size)))
    scenes = ScenesSourceConfig(count=max(recipe.train.batch_size, 8), image_size=size)
    val = ScenesSourceConfig(count=8, seed=1, image_size=size)
    data = recipe.data.model_copy(update={"train": scenes, "val": val, "test": None})
    stage = recipe.train.model_copy(
        update={"num_steps": num_steps, "num_epochs": None, "evaluate_every": None, "early_stopping": None,
                "keep": "last", "log_every": num_steps}
    )  # fmt: skip
    model = recipe.model
    for part in ("image_encoder", "text_encoder"):
        tower = getattr(model, part)
        if tower.pretrained == "hub":
            model = model.model_copy(update={part: tower.model_copy(update={"pretrained": "none"})})
    return recipe.model_copy(
        update={"data": data, "train": stage, "heads_first": None, "early_stages": (), "model": model}
    )
