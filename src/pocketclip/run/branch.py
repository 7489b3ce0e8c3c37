"""A run that goes on from a checkpoint of another one, its trunk, and counts what the trunk did as its own.

Its folder is made to look as if the run itself had been stopped at that step, and is then resumed: whatever makes a
resumed run exact makes a branch exact.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pocketclip import distributed
from pocketclip.data.source import Source, Subset
from pocketclip.errors import UserError
from pocketclip.files import write_atomically
from pocketclip.recipe import Recipe, load_recipe
from pocketclip.records import Trunk
from pocketclip.run.data import check_unchanged
from pocketclip.run.state import Run
from pocketclip.train import checkpoint
from pocketclip.train.checkpoint import CheckpointFolder
from pocketclip.train.config import TrainConfig
from pocketclip.train.rates import ConstantScheduleConfig
from pocketclip.train.schedule import rate_factor

FREE = {"num_epochs", "num_steps", "budget", "schedule", "branch", "keep_steps", "num_checkpoints", "checkpoint_every"}
FREE |= {"evaluate_every", "early_stopping", "keep", "keep_metric", "log_every", "tensorboard", "num_workers"}
"""Settings of `train` that no step sees."""
TRUNK = "trunk.json"
"""In a branch's folder: what it began with, once it has it."""


def follow_trunk(run: Run) -> None:
    """Before the first stage: see that the trunk did what this run would do, and take over its earlier stages."""
    branch = run.recipe.train.branch
    if branch is None:
        return
    run.resume = True
    if (run.folder / TRUNK).is_file():  # the run is past its branching, and needs the trunk no more
        run.trunk = _begun(run.folder / TRUNK)
        return
    folder, trunk = Path(branch.run), _recipe_of(branch.run)
    for key, value in _differences(run.recipe, trunk):
        raise UserError(
            f"train.branch: {folder} was trained with {key} {value!r}, and a branch goes on with its trunk's settings. "
            f"Set it to that, or leave train.branch out for a run of its own."
        )
    train = run.train_source
    splits: dict[str, Source] = {"train": train}
    if isinstance(train, Subset):  # of which val is the rest
        splits["val"] = run.val_source
    check_unchanged(folder, splits, run.watch, verify=run.verify)
    distributed.on_main(lambda: _take_early_stages(run, folder))


def take_up(run: Run, config: TrainConfig, steps_per_epoch: int) -> None:
    """Before the last stage: put the trunk's checkpoint where a resumed run looks for its own.

    Raises:
        UserError: the trunk has no such checkpoint, or had other rates until then.
    """
    branch = config.branch
    if branch is None or run.trunk is not None:
        return
    folder, num_steps = Path(branch.run), config.total_steps(steps_per_epoch)
    step = config.branches_at(num_steps)
    state = distributed.on_main(lambda: _checkpoint(folder, step))
    trunk = _recipe_of(branch.run)
    _check_rates(
        config, num_steps, trunk.train, state.get("num_steps") or trunk.train.total_steps(steps_per_epoch), step
    )
    begun = Trunk(
        run=branch.run,
        recipe_hash=trunk.fingerprint(),
        step=step,
        num_samples=step * config.batch_size,
        seconds=sum(state["progress"]["seconds"].values()),
    )
    distributed.on_main(lambda: _put(run.folder, folder, state, begun))
    run.trunk = begun


def _begun(file: Path) -> Trunk:
    try:
        return Trunk.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise UserError(
            f"{file}: damaged ({error.errors()[0]['msg']}); delete it to have it written anew from the trunk, which "
            "has to be where it was."
        ) from error


def _recipe_of(folder: str) -> Recipe:
    if not (Path(folder) / "recipe.yaml").is_file():
        raise UserError(f"train.branch.run: {folder} is no run's folder: it has no recipe.yaml.")
    return load_recipe(str(Path(folder) / "recipe.yaml"))


def _differences(own: Recipe, trunk: Recipe) -> Iterator[tuple[str, Any]]:
    """Keys that the trunk has another value of, with its value; data are compared by their content."""
    values, there = (
        dict(_flat(each.model_dump(mode="json", exclude={"data": True, "train": FREE}))) for each in (own, trunk)
    )
    for key in {**there, **values}:
        if values.get(key) != there.get(key):
            yield key, there.get(key)


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _take_early_stages(run: Run, trunk: Path) -> None:
    for name in list(run.recipe.stages)[:-1]:
        there, here = (CheckpointFolder(folder / "checkpoints" / name).final for folder in (trunk, run.folder))
        if not here.is_file():
            here.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(there, here)


def _checkpoint(trunk: Path, step: int) -> dict[str, Any]:
    known = CheckpointFolder(trunk / "checkpoints" / "train").by_step()
    if step in known:
        return checkpoint.load(known[step])
    others = f"it has {', '.join(map(str, known))}" if known else "it has none"
    nearest = min(known, key=lambda other: abs(other - step), default=None)
    one = "" if nearest is None else f"Branch at one of those, such as --set train.branch.step={nearest}, or "
    again = f"train {trunk} anew with --set train.keep_steps=[{step}]"
    raise UserError(
        f"train.branch: {trunk} keeps no checkpoint of step {step}; {others}. {one}{again if one else _upper(again)}."
    )


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _check_rates(own: TrainConfig, num_steps: int, trunk: TrainConfig, trunk_steps: int, step: int) -> None:
    """The rates of every step until the branch are the same in both plans."""
    schedule, there = own.schedule, trunk.schedule
    assert isinstance(schedule, ConstantScheduleConfig)
    if not isinstance(there, ConstantScheduleConfig):
        raise UserError(
            f"train.branch: the trunk's schedule is {there.kind}, whose rates depend on its length; branch from a run "
            "with schedule.kind constant."
        )
    begins = schedule.cooldown_begins(num_steps)
    if step > begins:
        raise UserError(
            f"train.branch.step: the cooldown begins at step {begins} of {num_steps} (got {step}); branch there or "
            "earlier, or make the run longer."
        )
    for number in range(step):
        rates = rate_factor(schedule, number, num_steps), rate_factor(there, number, trunk_steps)
        if rates[0] != rates[1]:
            raise UserError(
                f"train.branch: step {number} has {rates[0]:.4g} times the rate here, and {rates[1]:.4g} in the trunk. "
                "Give both the same schedule.warmup_steps, and branch before the trunk's own cooldown."
            )


def _put(folder: Path, trunk: Path, state: dict[str, Any], begun: Trunk) -> None:
    """The checkpoint and the metrics until then, where the run has not gone on from them already."""
    checkpoints = CheckpointFolder(folder / "checkpoints" / "train")
    if not checkpoints.steps() and not checkpoints.final.is_file():
        _put_checkpoint(checkpoints, folder, trunk, state)
    write_atomically(folder / TRUNK, begun.model_dump_json(indent=2) + "\n")


def _put_checkpoint(checkpoints: CheckpointFolder, folder: Path, trunk: Path, state: dict[str, Any]) -> None:
    progress = dict(state["progress"])
    if (trunk / "metrics.jsonl").is_file():
        lines = (trunk / "metrics.jsonl").read_bytes()[: progress["metrics_bytes"]]
        write_atomically(folder / "metrics.jsonl", lines)
    # What was best, whether to stop, and how many steps there are, is this run's own
    progress.update(best=None, best_step=0, evaluations_since_best=0, stopped=False, plan={})
    checkpoints.save(progress["step"], {**state, "progress": progress})
