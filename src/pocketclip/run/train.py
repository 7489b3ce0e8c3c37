"""Carries out a recipe: data, model, stages of training, evaluation, record, bundle."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pocketclip import distributed
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.cost.energy import measure_energy
from pocketclip.cost.price import price_dollars
from pocketclip.hardware import Load
from pocketclip.models.running.precision import resolve_device, round_to_half
from pocketclip.recipe import Recipe
from pocketclip.records import Provenance, RunRecord, write_record
from pocketclip.run.branch import follow_trunk
from pocketclip.run.budget import check_budgets, spent
from pocketclip.run.card import model_card
from pocketclip.run.fit import fit_to_data
from pocketclip.run.hubs import check_hubs, hubs_of, with_hubs
from pocketclip.run.learning import note_chance
from pocketclip.run.pace import Paced
from pocketclip.run.repeats import note_shared_captions
from pocketclip.run.scores import EvaluatedSplit, evaluate_split
from pocketclip.run.setup import check_ranks_agree, prepare_folder
from pocketclip.run.stage import train_stage
from pocketclip.run.state import Run
from pocketclip.run.strategies import check_towers
from pocketclip.stages.filling import FILLING
from pocketclip.stages.watch import Watch
from pocketclip.train.progress import Progress


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
    verify: bool = False,
    started: float | None = None,
    until: float = 1.0,
) -> Outcome:
    """Train, evaluate and write the bundle to `folder/bundle`.

    Within `distributed.started` every rank calls this with the same arguments; rank 0 writes the files. The folder is
    new, empty, or with `resume` one that was begun with the same recipe, whose newest checkpoint the run goes on from.

    The record has the price where this machine's `dollars_per_hour` are given, and `with_energy` what codecarbon
    measured. `with_profile` writes where the time of some early steps of each stage went to `folder/profile`;
    `with_sharding` lets several ranks spread the weights (FSDP2) instead of holding all of them each (DDP). `verify`
    reads every picture again and trusts no time of a file. `started` is when the command began, by `time.perf_counter`:
    its time counts, too. `until` is the share of the last stage's steps after which the run waits.

    Raises:
        UserError: anything the user can fix.
        Interrupted: Ctrl-C or SIGTERM; `resume` goes on.
        RungReached: the run came to `until`, and has its scores so far; `resume` goes on.
    """
    on, load = resolve_device(device), Load()
    started = time.perf_counter() if started is None else started
    check_budgets(recipe, dollars_per_hour, with_energy=with_energy)
    recipe, fitted = fit_to_data(recipe, watch)
    check_ranks_agree(recipe, on)
    distributed.on_main(lambda: prepare_folder(recipe, folder, watch, resume=resume))
    paced = Paced(watch)
    options = with_profile, with_sharding, verify, started, dollars_per_hour
    run = Run(recipe, folder, paced, on, resume, *options, until=until)
    run.notes["train"] += [fitted] if fitted else []
    follow_trunk(run)
    note_shared_captions(run)
    paced.fit()
    check_towers(run)
    check_hubs(run)
    with measure_energy(with_energy) as run.energy:
        stages = {stage: train_stage(run, stage, config) for stage, config in recipe.stages.items()}
        run.model.image_encoder.look_once(False)
        if recipe.bundle_weights == "float16":
            round_to_half(run.model)
        run.hubs = hubs_of(run)
        splits = {split: evaluate_split(run, split, source) for split, source in run.measured.items()}
    run.notes["train"] += _chosen(run, stages)
    note_chance(run, splits)
    run.notes["threads"] = paced.notes
    run.notes["trunk"] = [] if run.trunk is None else [run.trunk.told]
    record = _record(run, name, stages, Provenance.under(load))
    distributed.on_main(lambda: write_record(record, folder, "run"))
    model = PretrainedModel(run.model, recipe.model, run.tokenizer, run.preprocess)
    model.hubs = run.hubs
    model.trained_on, model.in_half_precision = run.trained_on(), recipe.bundle_weights == "float16"
    card = model_card(name, recipe, record, {split: each.result for split, each in splits.items()}, run.model)
    card = with_hubs(card, run.hubs)
    distributed.on_main(lambda: model.save_pretrained(folder / "bundle", card=card))
    return Outcome(folder, model, splits, record)


def _chosen(run: Run, stages: Mapping[str, Progress]) -> list[str]:
    """By what the weights of each stage were chosen, and on which split, where they are not those of its last step."""
    return [
        f"{name}: the weights of step {stages[name].best_step:,} of {stages[name].step:,} were chosen on val "
        f"({run.val_source.name}), the best by {config.chosen_by} of {stages[name].num_evaluations} evaluations"
        for name, config in run.recipe.stages.items()
        if config.keep == "best" and stages[name].num_evaluations
    ]


def _record(
    run: Run,
    name: str,
    stages: Mapping[str, Progress],
    provenance: Provenance,
) -> RunRecord:
    budget = run.recipe.train.budget
    dollars_per_hour = run.dollars_per_hour or (None if budget is None else budget.dollars_per_hour)
    total = run.earlier_seconds + time.perf_counter() - run.started
    return RunRecord(
        name=name,
        seed=run.recipe.seed,
        recipe_hash=run.recipe.fingerprint(),
        num_steps=sum(progress.step for progress in stages.values()),
        branched_from=run.trunk,
        num_images=len(run.train_source),
        num_captions=run.num_captions,
        broken_items=run.broken_messages(),
        left_out=run.left_out,
        notes=[note for notes in run.notes.values() for note in notes],
        seconds={**run.seconds, "caches": FILLING.seconds - run.filled, "total": total},
        seconds_per_epoch=run.seconds_per_epoch,
        metrics=stages["train"].evaluation,
        energy_kwh=run.energy.kwh,
        price_dollars=None if dollars_per_hour is None else price_dollars(total, dollars_per_hour),
        budget=None if budget is None else {budget.kind: budget.amount},
        spent=spent(run),
        macs_per_sample=run.macs_per_sample["train"],
        provenance=provenance,
    )
