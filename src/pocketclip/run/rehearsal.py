"""What a run takes here, from a rehearsal on some of its own pictures: a few steps of each stage, and all around them.

The data are opened and the model is built as the run will do it. Of what takes long, a part is done and the rest
reckoned: caches that are not filled yet by the samples they lack, steps by their number, evaluations by the size of
their splits. Nothing is kept.
"""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pocketclip.data import Source
from pocketclip.data.source import Subset
from pocketclip.features.cache import CacheConfig, cache_folder, is_filled
from pocketclip.hardware import Load
from pocketclip.models.running.precision import resolve_device
from pocketclip.recipe import Recipe
from pocketclip.records import Provenance
from pocketclip.run.budget import CLOSING_SECONDS, check_budgets, seconds_for, split_seconds, steps_for_macs
from pocketclip.run.features import Entry, entries_of, stage_of
from pocketclip.run.fit import items_of_epoch
from pocketclip.run.hubs import hubs_seconds
from pocketclip.run.pace import Paced
from pocketclip.run.stage import train_stage
from pocketclip.run.state import Run
from pocketclip.stages.watch import SILENT, Watch
from pocketclip.train.config import TrainConfig
from pocketclip.train.rates import ConstantScheduleConfig

NUM_STEPS, NUM_WARM_UP = 10, 4
FEW, SOME, MANY = 32, 128, 4
"""Pictures that wake a tower up, those that it is timed on, and how many times as many where these are soon over."""
LONG = 2.0
"""Seconds that tell enough."""
SPARE = 16
"""Pictures beside a batch, of which some may be broken."""


@dataclass(frozen=True)
class Stage:
    """What was reckoned of a stage."""

    num_steps: int
    step_seconds: float
    evaluation_seconds: float
    steps_per_evaluation: int | None

    @property
    def training(self) -> float:
        """Seconds of all steps."""
        return self.num_steps * self.step_seconds

    @property
    def validation(self) -> float:
        """Seconds of all evaluations on the validation split, the last step's among them."""
        every = self.steps_per_evaluation or max(1, self.num_steps)
        return (self.num_steps // every + (self.num_steps % every > 0)) * self.evaluation_seconds

    @property
    def seconds(self) -> float:
        """Of both."""
        return self.training + self.validation

    def filling(self, seconds: float) -> "Stage":
        """The same with the steps that a time is enough for, and one at least."""
        steps = max(1, int(seconds / self.step_seconds))
        while steps > 1 and (needed := replace(self, num_steps=steps).seconds) > seconds:
            steps = min(steps - 1, int(steps * seconds / needed))
        return replace(self, num_steps=max(1, steps))


@dataclass
class Rehearsal:
    """What was reckoned of a run."""

    around: dict[str, float] = field(default_factory=dict)
    """Seconds of all but the stages' steps and validations, by what they are for."""
    stages: dict[str, Stage] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def seconds(self) -> dict[str, float]:
        """Of the run, by what they are for."""
        training = sum(stage.training for stage in self.stages.values())
        validation = sum(stage.validation for stage in self.stages.values())
        return {**self.around, "training": training, "validation": validation}

    @property
    def total(self) -> float:
        """Seconds of the whole run."""
        return sum(self.seconds.values())

    def add(self, what: str, seconds: float) -> None:
        """So much more of it."""
        self.around[what] = self.around.get(what, 0.0) + seconds


class _Steps(Watch):
    """Remembers when each step was over."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.ends = watch, list[float]()

    def step(self, name: str, done: int, total: int, images_per_second: float, metrics: Mapping[str, float]) -> None:
        self.ends.append(time.perf_counter())

    def work(self, name: str, done: int, total: int, broken: object = ()) -> None:
        self.watch.work(name, done, total)

    def seconds(self) -> float:
        """Of a step, the first ones left out."""
        times = np.diff(self.ends)
        counted = times[NUM_WARM_UP - 1 :] if len(times) >= NUM_WARM_UP else times
        return float(np.mean(counted)) if len(counted) else 0.0


def can_rehearse(source: Source, recipe: Recipe) -> bool:
    """Whether some of a source stands for all of it: not of pairs of images, nor of stored views in a cache."""
    cached = any(stage.cache is not None for stage in recipe.stages.values())
    return source.images_per_example == 1 and not (source.stored is not None and cached)


def rehearse(
    recipe: Recipe, *, dollars_per_hour: float | None = None, started: float | None = None, watch: Watch = SILENT
) -> Rehearsal:
    """A run's seconds on this machine, by what they are for; `started` is when the command began."""
    check_budgets(recipe, dollars_per_hour, with_energy=False)
    load, found, began = Load(), Rehearsal(), time.perf_counter()
    steps = _Steps(watch)
    with tempfile.TemporaryDirectory() as place:
        paced = Paced(steps)
        paced.fit()
        run = Run(recipe, Path(place), paced, resolve_device("auto"), False, False, False)
        run.dollars_per_hour = dollars_per_hour
        whole = {"train": run.train_source, **run.measured}
        missing = _missing(run, whole)
        found.add("start", time.perf_counter() - (began if started is None else started))
        with _own_cache(Path(place) / "cache", run):
            most = max(SOME, *(stage.batch_size + SPARE for stage in recipe.stages.values()))
            run.train_source, run.val_source = _part(run.train_source, most), _part(run.val_source, SOME)
            run.measured = {name: _part(source, SOME) for name, source in run.measured.items()}
            for entry in missing:
                _rehearse_cache(run, *entry, found)
            for name, config in recipe.stages.items():
                _rehearse_stage(run, name, config, whole, found, steps)
    found.add("end", CLOSING_SECONDS)
    if recipe.train.budget is not None and recipe.train.budget.kind != "macs":
        _fill_budget(recipe, found, seconds_for(run, "train", recipe.train.budget)())
    found.provenance = Provenance.under(load)
    return found


def _missing(run: Run, whole: Mapping[str, Source]) -> list[tuple[Entry, str, Source]]:
    """What the run will fill the cache with: an entry, and its split with the whole of it.

    What later stages cache of trained towers no rehearsal can know; it is left out.
    """
    recipe, found = run.recipe, []
    config = next(iter(recipe.stages.values()))
    if config.cache is None and config.hard_negatives is None:
        return []
    for split, source in whole.items():
        if split != "train" and config.cache is None:
            continue  # neighbours are found among what is trained on
        if split == "test" and len(recipe.stages) > 1:
            continue  # of other towers
        for entry in entries_of(recipe, split, run.model):
            with run.as_finished() if entry.as_finished else nullcontext():
                towers = run.towers(config)
                if not is_filled(towers.root, stage_of(entry, recipe, towers, source, split)):
                    found.append((entry, split, source))
    return found


@contextmanager
def _own_cache(folder: Path, run: Run) -> Iterator[None]:
    """Within, features go to a folder that is thrown away, those of towers that are there already too."""
    before = os.environ.get("POCKETCLIP_CACHE")
    os.environ["POCKETCLIP_CACHE"] = str(folder)
    run.move_cache(cache_folder())
    try:
        yield
    finally:
        os.environ.pop("POCKETCLIP_CACHE")
        if before is not None:
            os.environ["POCKETCLIP_CACHE"] = before


def _part(source: Source, count: int) -> Source:
    """Some samples from all of a source, or the whole of a small one or of stored data, which know their own place."""
    if len(source) <= count or source.stored is not None:
        return source
    return Subset(source, np.unique(np.linspace(0, len(source) - 1, count).astype(np.int64)), source.name)


def _rehearse_cache(run: Run, entry: Entry, split: str, whole: Source, found: Rehearsal) -> None:
    """Encode some of a split: a few to wake the tower up, and as many as tell what each takes beside what all share.

    The second part is the one that stages train on.
    """
    config = next(iter(run.recipe.stages.values()))
    source = run.train_source if split == "train" else run.measured[split]
    times: list[tuple[int, float]] = []
    for part in (_part(source, min(FEW, len(source) - 1)), source, _part(whole, MANY * len(source))):
        if len(times) > 1 and (times[-1][1] > LONG or len(part) == times[-1][0]):
            break
        began = time.perf_counter()
        with run.as_finished() if entry.as_finished else nullcontext():
            towers = run.towers(config)
            towers.cached(stage_of(entry, run.recipe, towers, part, split), run.broken)
        times.append((len(part), time.perf_counter() - began))
    count, seconds = times[-1]
    each = seconds / count
    if len(times) > 2 and seconds > times[1][1]:
        each = min(each, (seconds - times[1][1]) / (count - times[1][0]))
    found.add("caches", seconds + each * (len(whole) - count))


def _rehearse_stage(
    run: Run, name: str, config: TrainConfig, whole: Mapping[str, Source], found: Rehearsal, steps: _Steps
) -> None:
    """Train some steps, and measure some of every split that the stage measures."""
    short: dict[str, object] = {"num_steps": NUM_STEPS, "num_epochs": None, "budget": None, "evaluate_every": None}
    short |= {"early_stopping": None, "keep": "last", "keep_steps": (), "branch": None}
    short |= {"schedule": ConstantScheduleConfig()}
    if config.is_heads_only:
        run.towers(config).features(run.train_source, config.cache or CacheConfig(), run.broken, seed=run.recipe.seed)
        run.towers(config).features(run.val_source, CacheConfig(), run.broken, for_scores=True)
    steps.ends.clear()
    began = time.perf_counter()
    progress = train_stage(run, name, config.model_copy(update=short))
    around = time.perf_counter() - began - progress.seconds["train"] - progress.seconds["validate"]
    first = progress.seconds["train"] - NUM_STEPS * steps.seconds()  # workers that start, and slow first steps
    found.add("start", max(0.0, around) + max(0.0, first))
    if found.stages and (neighbours := run.seconds.get(f"{name}_neighbours")):  # by a tower that was trained before
        found.add("caches", neighbours * (len(whole["train"]) / len(run.train_source) - 1))
    ratio = len(whole["val"]) / len(run.val_source)
    quick = ratio * split_seconds(run, config, run.val_source, exact=False)
    per_epoch = items_of_epoch(whole["train"], config) // config.batch_size
    num_steps = config.total_steps(per_epoch)
    if config.budget is not None and config.budget.kind == "macs":
        num_steps = min(num_steps, steps_for_macs(run, name, config, config.budget.amount))
    every = None if config.evaluate_every is None else max(1, round(config.evaluate_every * per_epoch))
    stage = Stage(num_steps, steps.seconds(), quick, every)
    if name != "train" and run.recipe.train.branch is not None:
        stage = replace(stage, num_steps=0)  # its trunk's
    elif name != "train" and config.budget is not None and config.budget.kind != "macs":
        stage = stage.filling(seconds_for(run, name, config.budget)())
    found.stages[name] = stage = replace(stage, num_steps=stage.num_steps - config.branches_at(stage.num_steps))
    run.macs_spent[name] = run.macs_per_sample[name] * stage.num_steps * config.batch_size
    if name == "train":
        for split, source in run.measured.items():
            ratio = len(whole[split]) / len(source)
            found.add("evaluation", ratio * split_seconds(run, config, source, exact=True))
        if run.recipe.hubs is not None:
            found.add("hubs", hubs_seconds(run, whole["train"]))


def _fill_budget(recipe: Recipe, found: Rehearsal, seconds: float) -> None:
    """The last stage takes what the rest of the run leaves of a time."""
    stage = found.stages["train"]
    found.stages["train"] = stage.filling(seconds - (found.total - stage.seconds))
