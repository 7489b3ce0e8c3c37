"""How many samples each row's run sees, and which cells cannot be trained, for their tower or their data."""

from dataclasses import replace

import torch

from pocketclip.config import digest
from pocketclip.errors import TooFewError, UserError
from pocketclip.models.image.config import ImageEncoderConfig
from pocketclip.recipe import Recipe
from pocketclip.run.data import open_data
from pocketclip.run.fit import items_of_epoch
from pocketclip.run.plan import samples_seen
from pocketclip.run.speed import samples_of_stage
from pocketclip.stages.watch import SILENT, Watch
from pocketclip.study.grid import Study


def samples_of_rows(study: Study, watch: Watch = SILENT) -> dict[str, int]:
    """Samples that every row's run sees, by the row's name; opens the data.

    Raises:
        UserError: rows differ and the study does not say `equal_steps: false`, or data cannot be opened.
    """
    _, seen = with_samples(study, watch)
    return seen


def with_samples(study: Study, watch: Watch = SILENT) -> tuple[Study, dict[str, int]]:
    """The study without the cells that cannot be trained, and what `samples_of_rows` says of the others."""
    counter, rows, left, seen = SampleCounter(watch), [], list(study.left), {}
    for row in study.rows:
        reason = None
        try:
            if row.levels:
                reason = counter.keeps_all_patches(row.recipe) or counter.too_few(row.recipe)
            if reason is None:
                seen[row.name] = counter.samples(row.recipe)
                rows.append(row)
        except TooFewError as error:
            if not row.levels:
                raise
            reason = str(error)
        if reason is not None:
            left.append(row.left(reason))
    if not rows:
        first = left[0]
        raise UserError(f"{study.name}: none of the cells can be trained; the first, '{first.name}': {first.reason}")
    if study.config.needs_equal_samples and len(set(seen.values())) > 1:
        listed = ", ".join(f"'{name}' {count:,}" for name, count in seen.items())
        raise UserError(
            f"{study.name}: rows see different numbers of samples (steps x batch size): {listed}. Make them equal with "
            "train.num_steps, or say equal_steps: false."
        )
    return replace(study, rows=tuple(rows), left=tuple(left)), seen


def has_budget(recipe: Recipe) -> bool:
    """Whether something else than a number of steps ends a stage."""
    return any(getattr(stage, "budget", None) is not None for stage in recipe.stages.values())


def _why_all_patches(config: ImageEncoderConfig) -> str:
    with torch.device("meta"):  # what it is made of is enough
        tower = config.build(load_pretrained=False)
    try:
        with tower.on_patches(0.5):
            return ""
    except UserError as error:
        return str(error)


class SampleCounter:
    """Opens each data set and outlines each tower once, however many cells have them."""

    def __init__(self, watch: Watch = SILENT) -> None:
        self.watch = watch
        self._items: dict[tuple[str, str], int] = {}
        self._fitted: dict[str, int] = {}
        self._patches: dict[str, str] = {}
        self._lacking: dict[str, TooFewError] = {}

    def samples(self, recipe: Recipe) -> int:
        """What `samples_seen` says of a recipe; 0 where a budget ends a stage, which nobody knows before the run."""
        if has_budget(recipe):
            return 0
        if recipe.fit_small_data:  # its batches depend on the data
            key = digest([recipe.data.model_dump(), [stage.model_dump() for stage in recipe.stages.values()]])
            if key not in self._fitted:
                self._fitted[key] = samples_seen(recipe, self.watch)
            return self._fitted[key]
        return sum(samples_of_stage(stage, self._num_items(recipe, stage.epoch)) for stage in recipe.stages.values())

    def keeps_all_patches(self, recipe: Recipe) -> str | None:
        """Why the image tower can leave no patches out, where a stage asks for that; opens no data."""
        stage = next((name for name, own in recipe.stages.items() if own.keep_patches is not None), None)
        if stage is None or recipe.model.bundle is not None:  # a bundle's tower is known when it is read
            return None
        tower = recipe.model.image_encoder
        key = digest(tower.model_dump())
        if key not in self._patches:
            self._patches[key] = _why_all_patches(tower)
        return f"{stage}.{self._patches[key]}" if self._patches[key] else None

    def too_few(self, recipe: Recipe) -> str | None:
        """Why not a single batch can be filled, in a sentence; None where one can."""
        if recipe.fit_small_data:
            return None
        for name, stage in recipe.stages.items():
            if (items := self._num_items(recipe, stage.epoch)) < stage.batch_size:
                return f"{name}.batch_size: a batch of {stage.batch_size:,} is more than all {items:,} {stage.epoch}"
        return None

    def _num_items(self, recipe: Recipe, epoch: str) -> int:
        data = digest(recipe.data.model_dump(exclude={"test"}))
        if (data, epoch) not in self._items:
            if data in self._lacking:
                raise self._lacking[data]
            try:
                source, _ = open_data(recipe.data, self.watch)
            except TooFewError as error:
                self._lacking[data] = error
                raise
            for stage in recipe.stages.values():
                self._items[data, stage.epoch] = items_of_epoch(source, stage)
        return self._items[data, epoch]
