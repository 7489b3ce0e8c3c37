"""What a run will take, from its recipe, the data it names and what was measured before."""

import importlib.util
from typing import TYPE_CHECKING

from pocketclip.cost.plan import Plan, Throughput, find_hardware, hours_and_dollars, published_run
from pocketclip.data import Source
from pocketclip.errors import UserError, install_line
from pocketclip.hardware import describe_hardware
from pocketclip.recipe import Recipe, place_of_stage
from pocketclip.run.data import open_data
from pocketclip.run.fit import fit_batches, fit_to_data, items_of_epoch
from pocketclip.run.speed import known_throughput, samples_of_stage, samples_of_trunk
from pocketclip.run.storage import ModelSize, storage_bytes
from pocketclip.stages.watch import SILENT, Watch

if TYPE_CHECKING:
    from pocketclip.run.rehearsal import Rehearsal


def samples_seen(recipe: Recipe, watch: Watch = SILENT) -> int:
    """Pairs that pass through the model in the whole run: steps times batch size, over its stages."""
    recipe, _ = fit_to_data(recipe, watch)
    train, _ = open_data(recipe.data, watch)
    return sum(samples_of_stage(stage, items_of_epoch(train, stage)) for stage in recipe.stages.values())


def plan_run(
    recipe: Recipe,
    name: str,
    hardware_name: str,
    *,
    changes: tuple[str, ...] = (),
    throughput: float | None = None,
    num_samples: int | None = None,
    dollars_per_hour: float | None = None,
    measure: bool = False,
    started: float | None = None,
    watch: Watch = SILENT,
) -> Plan:
    """Hours, dollars and storage of a run on hardware of the table in `cost/hardware.json`, or on `this` machine.

    The throughput in samples a second is, in this order: the given one; on `this` machine that of a rehearsal on the
    run's own data (see `run/rehearsal.py`), or where they are not here, if asked for, of a few steps on drawn pictures;
    that of a record of this recipe by its `name`, with the same `changes`, on such a machine; a published one; or an
    estimate with a range. `num_samples` of an epoch and `dollars_per_hour` replace what the data and the table say.
    `watch` is told how far reading the data is, and a measured training; `started` is when the command began.

    Raises:
        UserError: unknown hardware, no way to know the number of samples or the speed, or settings without effect.
    """
    hardware = find_hardware(hardware_name)
    _check(hardware_name, throughput, num_samples, dollars_per_hour, measure)
    source, missing, fitted = None, "", None
    try:
        recipe, fitted = fit_to_data(recipe, watch)
        source, _ = open_data(recipe.data, watch)
    except UserError as error:
        missing = str(error)
    items, samples_source = _samples_per_epoch(recipe, name, source, num_samples, missing)
    recipe = fit_batches(recipe, items)
    if items < (batch := max(stage.batch_size for stage in recipe.stages.values())):
        raise UserError(f"{name}: {items:,} samples are fewer than a batch of {batch}.")
    model, lacking = _model_size(recipe)
    rehearsal = None
    if hardware_name == "this" and throughput is None and num_samples is None and source is not None:
        rehearsal = _rehearsed(recipe, source, dollars_per_hour, started, watch)
    if rehearsal is not None:
        seen = sum(stage.num_steps * recipe.stages[name].batch_size for name, stage in rehearsal.stages.items())
        rate = _rehearsed_rate(rehearsal, seen)
    else:
        _refuse_budget(recipe, hardware_name)
        whole = sum(samples_of_stage(stage, items) for stage in recipe.stages.values())
        seen = whole - samples_of_trunk(recipe, items)
        rate = (
            _given(throughput)
            or (_measured(recipe, watch) if measure else None)
            or known_throughput(recipe, name, hardware_name, changes=changes, num_items=items, samples_seen=whole)
        )
    price = hardware.dollars_per_hour if dollars_per_hour is None else dollars_per_hour
    (hours, shortest, longest), dollars = hours_and_dollars(seen, rate, price)
    return Plan(
        recipe=name,
        hardware=hardware_name,
        samples_per_epoch=items,
        samples_source=samples_source,
        samples_seen=seen,
        throughput=rate,
        hours=hours,
        hours_low=shortest,
        hours_high=longest,
        dollars_per_hour=price,
        price_source="given with --price" if dollars_per_hour is not None else hardware.priced_by,
        dollars=dollars,
        seconds={} if rehearsal is None else {what: round(value, 2) for what, value in rehearsal.seconds.items()},
        storage_bytes=storage_bytes(recipe, model, source, items),
        notes=[*filter(None, [fitted, lacking]), *_notes(recipe, rate, missing)],
    )


def _given(throughput: float | None) -> Throughput | None:
    return None if throughput is None else Throughput.exactly(throughput, "given", "given with --throughput")


def _measured(recipe: Recipe, watch: Watch) -> Throughput:
    from pocketclip.run.measure import measure_throughput

    return measure_throughput(recipe, watch=watch)


def _rehearsed(
    recipe: Recipe, source: Source, dollars_per_hour: float | None, started: float | None, watch: Watch
) -> "Rehearsal | None":
    """None where torch is not here, or a part of the data cannot stand for all."""
    if importlib.util.find_spec("torch") is None:
        return None
    from pocketclip.run.rehearsal import can_rehearse, rehearse

    if not can_rehearse(source, recipe):
        return None
    return rehearse(recipe, dollars_per_hour=dollars_per_hour, started=started, watch=watch)


def _rehearsed_rate(rehearsal: "Rehearsal", samples: int) -> Throughput:
    parts = ", ".join(f"{what} {seconds:.0f} s" for what, seconds in rehearsal.seconds.items())
    rate = Throughput.exactly(
        samples / rehearsal.total,
        "measured",
        f"rehearsed now on some of its own pictures ({parts}), {describe_hardware()}",
    )
    return rate.beside(rehearsal.provenance)


def _refuse_budget(recipe: Recipe, hardware_name: str) -> None:
    """What a budget buys on another machine is not known before it runs there."""
    name = next((name for name, stage in recipe.stages.items() if stage.budget is not None), None)
    if name is not None:
        where = place_of_stage(name)
        raise UserError(
            f"{where}.budget: how many steps it pays for is known on the machine that runs them only. Plan with "
            f"--hardware this where the data are (got {hardware_name}), or give {where}.num_steps in its place."
        )


def _model_size(recipe: Recipe) -> tuple[ModelSize | None, str]:
    """Of the recipe's model; without torch None, and what to note."""
    try:
        return ModelSize.of(recipe.model), ""
    except ModuleNotFoundError as error:
        if (line := install_line(error)) is None:
            raise
        return None, f"what the model takes on disk is not known here, since it cannot be built. {line.rstrip('.')}"


def _check(
    hardware_name: str, throughput: float | None, num_samples: int | None, dollars_per_hour: float | None, measure: bool
) -> None:
    for option, value in (("throughput", throughput), ("samples", num_samples)):
        if value is not None and value <= 0:
            raise UserError(f"--{option} {value:g}: should be above 0.")
    if dollars_per_hour is not None and dollars_per_hour < 0:
        raise UserError(f"--price {dollars_per_hour:g}: should not be below 0.")
    if measure and hardware_name != "this":
        raise UserError(
            f"--measure trains on this machine; with --hardware {hardware_name} it means nothing. Use this."
        )
    if measure and throughput is not None:
        raise UserError("--measure has no effect with --throughput; leave one of them out.")


def _samples_per_epoch(
    recipe: Recipe, name: str, source: Source | None, given: int | None, missing: str
) -> tuple[int, str]:
    if given is not None:
        return given, "given with --samples"
    if source is not None:
        return items_of_epoch(source, recipe.train), source.name
    published = published_run(name)
    if published is not None:
        return published.samples_per_epoch, f"published ({published.source})"
    raise UserError(f"{missing} Give the number of samples of an epoch with --samples.")


def _notes(recipe: Recipe, rate: Throughput, missing: str) -> list[str]:
    notes = []
    if rate.origin == "estimated":
        notes.append("an estimate; before a long run, measure: a few hundred steps on the machine, or --measure on it")
        if recipe.teachers:
            notes.append("live teachers are not in the estimate")
    if rate.beside_other_work:
        notes.append("the speed was measured beside other work; on an idle machine measure again, with --measure")
    if recipe.train.branch is not None:
        notes.append("what its trunk did, it takes over; the samples and the time are those that are left")
    if any(stage.early_stopping is not None for stage in recipe.stages.values()):
        notes.append("early stopping may end it sooner")
    if missing:
        notes.append(f"the data are not on this machine ({missing.splitlines()[0]})")
    return notes
