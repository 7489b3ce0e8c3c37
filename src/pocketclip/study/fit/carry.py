"""Carries out a fit: look, choose, train, and hold the bundle against its limits. The same call goes on with one."""

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from pocketclip.config import Config
from pocketclip.cost.memory import peak_bytes
from pocketclip.cost.weigh import folder_bytes
from pocketclip.data import open_source
from pocketclip.errors import BudgetTooSmallError, TooManyBrokenError, UserError
from pocketclip.files import cannot_write, holds_only, write_atomically
from pocketclip.models.running.precision import resolve_device, resolve_precision
from pocketclip.recipe import Recipe
from pocketclip.run.data import excerpt
from pocketclip.run.setup import FIT, MAX_CAPTIONS_FOR_TOKENIZER, first_captions
from pocketclip.run.train import Outcome, train
from pocketclip.stages.watch import SILENT, Watch
from pocketclip.study.fit.candidates import read_table
from pocketclip.study.fit.choice import choose, limits_of, three_lines
from pocketclip.study.fit.limits import Limits, told_bytes
from pocketclip.study.fit.look import Data, Machine
from pocketclip.study.fit.plans import EXACT, Planner
from pocketclip.study.fit.recipe import bank_within, bytes_of, recipe_of
from pocketclip.study.fit.untuned import without_tuning
from pocketclip.study.fit.weigh import Scale, available_memory, one_input

WITH_TUNING = 150.0
"""Seconds of a budget from which on training the towers is worth timing."""
CHECKING = 3.0
"""Seconds on a fast machine of what comes after training: the gallery, and the limits once more."""
UNTUNED = "The time was over when the heads were trained: the towers stay as they were, untuned."
TRIES = 3
"""Timings of a latency that is to keep a limit; other work may disturb one of them."""


class Request(Config):
    """What was typed; a folder goes on with the same one only."""

    source: str
    limits: Limits


class Fitting(Config):
    """The content of a folder's `fit.json`: what was asked, and what was decided on it."""

    request: Request
    lines: tuple[str, ...]
    seconds: dict[str, float]
    """That were planned, by what they are for."""
    recipe: dict[str, Any]

    @classmethod
    def there(cls, folder: Path, request: Request) -> Self | None:
        """That of a folder which the same request began; None in an empty one.

        Raises:
            UserError: the folder holds something else.
        """
        path = folder / FIT
        if not path.is_file():
            if folder.exists() and not (folder.is_dir() and holds_only(folder)):
                raise UserError(f"{folder}: holds something that fit did not begin; choose another --out.")
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path}: damaged ({error}); delete {folder} or choose another --out.") from error
        found = cls.parse(values, place=str(path))
        if found.request != request:
            raise UserError(
                f"{folder}: holds a fit that was asked otherwise ({_difference(found.request, request)}). Give the "
                "same words to go on with it, or choose another --out."
            )
        return found


@dataclass(frozen=True)
class Fitted:
    """What a fit leaves behind."""

    outcome: Outcome
    kept: tuple[str, ...]
    """Of each limit what the bundle takes of it, in words."""
    broken: tuple[str, ...]
    """Those of them that are not kept after all."""


def decide(request: Request, *, device: str, spent: Callable[[], float], watch: Watch = SILENT) -> Fitting:
    """Look at the data and the machine, and choose; `spent` are the seconds since the command began.

    Raises:
        UserError: nothing to learn from, no tower, or a limit that none keeps.
    """
    source, on, table = open_source(request.source, place="SOURCE"), resolve_device(device), read_table()
    limits = request.limits
    data = Data.of(source)
    first = next(iter(table.text_towers.values()))
    first.package.path()  # its install line, before anything is measured
    watch.work("looking at the machine", 0, 1)
    machine = Machine(table, on)
    speeds = machine.speeds(source, with_tuning=limits.budget_seconds >= WITH_TUNING)
    scale = Scale(on, lambda: first_captions(excerpt(source, MAX_CAPTIONS_FOR_TOKENIZER)))
    memory = available_memory()
    exact = EXACT if resolve_precision("auto", on) == "bfloat16" else 1.0
    planner = Planner(table, data, speeds, limits.budget_seconds - spent(), exact=exact)
    choice = choose(table, planner, limits_of(limits, scale, memory), limits.budget_seconds, spent())
    watch.work("looking at the machine", 1, 1)
    chunk = scale.chunk_size(min(memory, limits.memory_bytes or memory), 128) if choice.plan.candidate.tuned else None
    room = float("inf") if limits.size_bytes is None else limits.size_bytes - scale.size_bytes(choice.plan.candidate)
    bank = bank_within(room)
    recipe = recipe_of(
        choice.plan,
        request.source,
        captioned=data.num_pictures,
        all_pictures=len(source),
        budget_seconds=0.99 * limits.budget_seconds - min(10.0, CHECKING * planner.slowness),
        chunk_size=chunk,
        hubs=bank,
    )
    beside = 0 if bank is None else bytes_of(bank)
    lines = three_lines(choice, data, speeds, machine.image.core_ms, limits.budget_seconds, bank_bytes=beside)
    seconds = {"look": spent(), **choice.plan.seconds}
    return Fitting(
        request=request,
        lines=tuple(lines),
        seconds={what: round(value, 1) for what, value in seconds.items()},
        recipe=recipe.model_dump(mode="json"),
    )


def begin(fitting: Fitting, folder: Path) -> None:
    """Write down what was decided, so that the same request goes on with it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    write_atomically(folder / FIT, json.dumps(fitting.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n")


def carry_out(fitting: Fitting, folder: Path, *, device: str, started: float, watch: Watch) -> Fitted:
    """Train, or go on with it, and measure what the bundle takes."""
    recipe = Recipe.parse(fitting.recipe, place=str(folder / FIT))
    run = partial(train, folder=folder, name=folder.name, watch=watch, device=device)
    try:
        try:
            outcome = run(recipe, resume=(folder / "recipe.yaml").is_file(), started=started)
        except BudgetTooSmallError:
            if recipe.heads_first is None:
                raise
            watch.note(UNTUNED)
            rest, seconds = without_tuning(recipe, folder)
            values = {"recipe": rest.model_dump(mode="json"), "lines": (*fitting.lines, UNTUNED)}
            begin(fitting.model_copy(update=values), folder)
            outcome = run(rest, resume=True, started=started + seconds)
    except TooManyBrokenError as error:
        words = ["pocketclip", "train", str(folder), "--out", str(folder)]
        command = f"{shlex.join(words)} --set data.max_broken_share=SHARE --resume"
        raise UserError(f"{error}\nTo go on without them: {command}") from error
    return _held_against(fitting.request.limits, outcome)


def _held_against(limits: Limits, outcome: Outcome) -> Fitted:
    """The limits that were asked for, beside what the trained model takes."""
    rows: list[tuple[str, float, float, Callable[[float], str]]] = []
    if limits.size_bytes is not None:
        rows.append(("size", folder_bytes(outcome.folder / "bundle"), limits.size_bytes, told_bytes))
    if limits.latency_ms is not None:
        taken = _latency_ms(outcome, limits.latency_ms)
        rows.append(("latency", taken, limits.latency_ms, lambda got: f"{got:.1f} ms"))
    if limits.memory_bytes is not None:
        rows.append(("memory of all this", peak_bytes(), limits.memory_bytes, told_bytes))
    told = [(f"{name} {show(taken)} of {show(most)}", taken <= most) for name, taken, most, show in rows]
    return Fitted(outcome, tuple(text for text, _ in told), tuple(text for text, good in told if not good))


def _latency_ms(outcome: Outcome, most: float) -> float:
    """Of one picture and one sentence, timed again where it is too much at first."""
    runner, size, best = outcome.model.runner, outcome.model.preprocess.image_size, float("inf")
    for _ in range(TRIES):
        best = min(best, one_input(runner, size) + one_input(runner, None))
        if best <= most:
            break
    return best


def _difference(before: Request, now: Request) -> str:
    if before.source != now.source:
        return f"SOURCE {before.source}"
    old, new = before.limits.model_dump(), now.limits.model_dump()
    name = next(name for name in old if old[name] != new[name])
    option = f"--{name.partition('_')[0]}"
    return f"{option} {old[name]:g} {name.partition('_')[2]}" if old[name] is not None else f"without {option}"


def elapsed(started: float) -> Callable[[], float]:
    """Seconds since the command began."""
    return lambda: time.perf_counter() - started
