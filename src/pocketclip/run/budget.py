"""What a run may spend and has spent: steps from multiply-accumulates, or a time that plans its steps as it goes."""

import copy
import math
import time
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np

from pocketclip import distributed
from pocketclip.cost.price import price_dollars
from pocketclip.cost.training import sample_macs
from pocketclip.data import Source
from pocketclip.data.batches import BatchPlan
from pocketclip.data.source import Subset
from pocketclip.errors import UserError
from pocketclip.features.cache import CacheConfig
from pocketclip.features.towers import features_in_memory, texts_in_memory
from pocketclip.models.pair_head import judge_of
from pocketclip.models.running.precision import precision_of_scores
from pocketclip.models.running.runner import Runner
from pocketclip.recipe import Recipe, place_of_stage
from pocketclip.run.hubs import hubs_seconds
from pocketclip.run.scores import embed_pairs, frozen_features
from pocketclip.run.spending import padded_tokens, sample_work
from pocketclip.run.state import Run
from pocketclip.train.budget import CountedSteps, TimeBudget
from pocketclip.train.config import BudgetConfig, TrainConfig

CLOSING_SECONDS = 1.0
"""For the record, the bundle, the gallery and the end of the process."""
WOKEN, PROBED = 16, 96
"""Images that set up what the first ones need, and those that say how long encoding a whole split takes."""
SECONDS = {"seconds": 1.0, "minutes": 60.0}


def check_budgets(recipe: Recipe, dollars_per_hour: float | None, *, with_energy: bool) -> None:
    """Refuse with a UserError, before any work, a budget whose price nobody said."""
    for name, stage in recipe.stages.items():
        if (budget := stage.budget) is None:
            continue
        where = place_of_stage(name)
        if budget.kind == "dollars" and not (dollars_per_hour or budget.dollars_per_hour):
            raise UserError(
                f"{where}.budget: dollars needs what this machine costs: give --price DOLLARS_PER_HOUR, or "
                f"--set {where}.budget.dollars_per_hour=0.10 beside it."
            )
        if budget.kind == "joules" and budget.watts is None and not with_energy:
            raise UserError(
                f"{where}.budget: joules needs what this machine draws: `train --energy` measures it, or give "
                f"--set {where}.budget.watts=50 beside it."
            )


def stage_macs(run: Run, config: TrainConfig) -> float:
    """Multiply-accumulates of one sample of a stage, live teachers included."""
    live = run.teaching.live
    teachers = () if live is None else live.teachers
    work = sample_work(run.recipe, config, padded_tokens(run.train_source, run.tokenizer, config))
    return sample_macs(run.model, work, run.objective, teachers).total


def within_budget(run: Run, name: str, config: TrainConfig, plan: BatchPlan) -> tuple[TrainConfig, CountedSteps]:
    """A stage's settings with the steps that its budget pays for, and who plans them."""
    run.macs_per_sample[name] = stage_macs(run, config)
    if config.budget is None:
        return config, CountedSteps()
    if config.budget.kind == "macs":
        steps = steps_for_macs(run, name, config, config.budget.amount)
        return config.model_copy(update={"num_steps": min(steps, config.total_steps(plan.steps_per_epoch))}), (
            CountedSteps()
        )
    seconds, is_last, began = seconds_for(run, name, config.budget), name == "train", run.stage_began
    quick, after = _evaluation_seconds(run, config, is_last=is_last)
    began = 0.0 if is_last else began
    return config, TimeBudget(
        seconds=lambda: began + seconds(),
        spent=run.spent,
        after=after,
        evaluation_seconds=quick,
        too_small=lambda end: _too_small(name, config, end - began, seconds()),
    )


def _too_small(name: str, config: TrainConfig, needed: float, seconds: float) -> str:
    """What is wrong with so few seconds, and the nearest amount that works."""
    assert config.budget is not None
    kind, amount, where = config.budget.kind, config.budget.amount, place_of_stage(name)
    nearest = f"--set {where}.budget.{kind}={rounded_up(amount * needed / seconds):g}"
    return (
        f"{where}.budget: {amount:g} {kind} is too small for one batch: what has to be done around it and the batch "
        f"take {needed:.3g} s here. Give at least {nearest}."
    )


def spent(run: Run) -> dict[str, float]:
    """What a run has used up: `macs` of the samples of all stages, `seconds` without pauses, and what is known else."""
    budget, seconds = run.recipe.train.budget, run.spent.seconds()
    found = {"macs": sum(run.macs_spent.values()), "seconds": seconds}
    found["device_hours"] = seconds * distributed.world_size() / 3600
    if price := run.dollars_per_hour or (None if budget is None else budget.dollars_per_hour):
        found["dollars"] = price_dollars(seconds, price)
    if run.energy.kwh is not None:
        found["joules"] = 3.6e6 * run.energy.kwh
    elif budget is not None and budget.watts is not None:
        found["joules"] = seconds * budget.watts
    return found


def steps_for_macs(run: Run, name: str, config: TrainConfig, amount: float) -> int:
    """Whole batches of a stage that an amount pays for; a UserError where it is not even one."""
    before = sum(macs for stage, macs in run.macs_spent.items() if stage != name) if name == "train" else 0.0
    batch = run.macs_per_sample[name] * config.batch_size
    steps = int((amount - before) // batch)
    if steps < 1:
        where, earlier = place_of_stage(name), f", and the stages before take {before:.3g}" if before else ""
        raise UserError(
            f"{where}.budget: {amount:.6g} macs is too small: one batch of {config.batch_size} takes {batch:.3g}"
            f"{earlier}. Give at least --set {where}.budget.macs={rounded_up(before + batch):.3g}."
        )
    return steps


def seconds_for(run: Run, name: str, budget: BudgetConfig) -> Callable[[], float]:
    """What an amount is in seconds on this machine; of joules by what is measured so far."""
    amount = budget.amount
    if budget.kind in SECONDS:
        return lambda: SECONDS[budget.kind] * amount
    if budget.kind == "device_hours":
        return lambda: 3600 * amount / distributed.world_size()
    if budget.kind == "dollars":
        price = run.dollars_per_hour or budget.dollars_per_hour
        assert price, "checked before"
        return lambda: 3600 * amount / price
    if budget.watts is not None:
        return lambda: amount / float(budget.watts or 1)
    return lambda: amount / _watts(run, name)


def _watts(run: Run, name: str) -> float:
    watts = run.energy.watts()
    if not watts:
        where = place_of_stage(name)
        raise UserError(
            f"{where}.budget: what this machine draws cannot be measured ({run.energy.method}); give "
            f"--set {where}.budget.watts=50."
        )
    return watts


def _evaluation_seconds(run: Run, config: TrainConfig, *, is_last: bool) -> tuple[float, float]:
    """What one validation of the stage takes, and all that follows the last stage; tried on a few pictures."""
    quick = split_seconds(run, config, run.val_source, exact=False)
    if not is_last:
        return quick, 0.0
    splits = (split_seconds(run, config, one, exact=True) for one in run.measured.values())
    return quick, CLOSING_SECONDS + hubs_seconds(run, run.train_source) + sum(splits)


def split_seconds(run: Run, config: TrainConfig, source: Source, *, exact: bool) -> float:
    """What measuring a split takes, as validations do it or, `exact`, as the end of a run does."""
    with run.as_finished() if exact else nullcontext():
        if not config.is_heads_only:
            return _encoding_seconds(run, config, source, exact=exact)
        return (2 if exact else 1) * _scoring_seconds(run, config, source)  # intervals are drawn, too


def _scoring_seconds(run: Run, config: TrainConfig, source: Source) -> float:
    """Of a split whose features the cache has, or has from now on."""
    pairs = frozen_features(run, source, config)
    started = time.perf_counter()
    heads = copy.deepcopy(run.model.heads_only()).to(run.device).eval()
    run.task.points(embed_pairs(heads, pairs, run.device), source, judge_of(heads.pair_head))
    return time.perf_counter() - started


def _encoding_seconds(run: Run, config: TrainConfig, source: Source, *, exact: bool) -> float:
    """Of a whole split through the towers as they are; images that the cache keeps are there from now on."""
    precision = precision_of_scores(config.precision) if exact else config.precision
    few, some = (Subset(source, np.arange(min(count, len(source))), "some") for count in (WOKEN, PROBED))
    seconds = 0.0
    if config.cache is not None:
        run.towers(config).images(source, CacheConfig(), run.broken_of(source), for_scores=True)
    began = time.perf_counter()
    runner = Runner(
        run.model, device=run.device, precision=precision, image_size=run.preprocess.image_size, heads=False
    )
    building = time.perf_counter() - began
    for part in (few, some):
        began = time.perf_counter()
        if config.cache is None:
            features_in_memory(runner, part, run.tokenizer, run.preprocess)
        else:
            texts_in_memory(runner, part, run.tokenizer)
        seconds = time.perf_counter() - began
    return building + seconds * len(source) / len(some)


def rounded_up(value: float) -> float:
    """To two figures."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / unit) * unit
