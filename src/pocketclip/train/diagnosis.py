"""Whether a stage of training learns anything, from its losses and scores alone.

Everything here looks at numbers that are in `metrics.jsonl` already. What is found has a name, under which a user is
told of it once, and a sentence; `causes.py` words what is likely behind it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pocketclip.models.dual_encoder import MAX_LOGIT_SCALE
from pocketclip.records import Interval, percent
from pocketclip.train.causes import Kind, Settings, likely_causes

Row = Mapping[str, float]
"""A line of `metrics.jsonl`: `step` with the losses since the line before, or with the scores of an evaluation."""
NEAR = 0.02
"""Share of a loss within which two values are one."""
MOVED = 0.05
"""Share of its first value by which a loss is another one, whatever batches it is of."""
LESS_LEARNED = 0.7
"""Share of its first value below which a loss has clearly sunk."""
PATIENCE_STEPS = 300
"""No loss is called standing before so many steps, nor before the warm-up ends, unless half of the stage is over."""
FEWEST_STEPS = 50
"""No training is judged before so many, unless it is over."""
WINDOW_STEPS, MAX_WINDOWS = 10, 50
WORSE_EVALUATIONS = 3
"""So many in a row that are worse than the best one by more than noise are over-fitting."""
RISEN_LOSS = 1.25
"""Times its lowest value, from where a validation loss has clearly risen."""
TEMPERATURE_BOUNDS = {"lower": math.exp(-MAX_LOGIT_SCALE), "upper": 1.0}
FEWEST_TESTED = 20
"""Items below which no score can be told from guessing."""


@dataclass(frozen=True)
class Stage:
    """What is known of a stage before its first step."""

    name: str
    settings: Settings
    warmup_steps: int = 0
    uninformed: float | None = None
    """The training loss of a model that knows nothing; None where that is not known."""
    uninformed_validation: float | None = None
    by_chance: Mapping[str, float] = field(default_factory=dict)
    """What guessing gives in scores of the validation split."""
    num_tested: int = 0
    """Of that split, what an interval goes by."""
    score: str = "mean_recall"
    """The one to choose a model by."""
    keeps_best: bool = False
    loss_grows: bool = False
    """Whether it may, since a queue of negatives is filled first."""


def findings(stage: Stage, rows: Sequence[Row], *, over: bool) -> dict[str, str]:
    """What is wrong so far, or at the end of the stage where it is `over`, by name; nothing of one that learns.

    `chance` is that of the newest scores, which are points: at the end the records' intervals say more.
    """
    losses = _windows(rows, stage.settings.num_steps)
    scores = [row for row in rows if stage.score in row]
    if not losses:
        return {}
    step = max(int(row["step"]) for row in rows)
    soon = max(FEWEST_STEPS, min(max(stage.warmup_steps, PATIENCE_STEPS), stage.settings.num_steps / 2))
    patient = over or step >= soon
    guessed = within_chance(scores[-1], stage.by_chance, stage.num_tested) if scores else ""
    found = {"jump": _jump(stage, losses)}
    if patient and not (scores and _better_than_nothing(stage, scores[-1], guessed)):
        found["standing"] = _standing(stage, losses, step)
    if patient and not over and guessed and not found.get("standing"):
        found["chance"] = f"after {step:,} steps, {guessed}"
    found |= {"overfitting": _overfitting(stage, losses, scores), "temperature": _clamped(stage, rows)}
    found = {name: f"{stage.name}: {told}" for name, told in found.items() if told}
    return _with_causes(stage, found, losses)


def within_chance(scores: Mapping[str, Interval | float], by_chance: Mapping[str, float], num_tested: int) -> str:
    """A sentence where no score is told from guessing, by its interval or else by that of guessing; else nothing."""
    there = {name: chance for name, chance in by_chance.items() if name in scores}
    if not there or num_tested < FEWEST_TESTED:
        return ""
    if any(_is_above(scores[name], chance, num_tested) for name, chance in there.items()):
        return ""
    name, chance = next(iter(there.items()))
    return f"{name.replace('_', ' ')} is {percent(scores[name])} %, where guessing gives {100 * chance:.1f} %"


def _is_above(score: Interval | float, chance: float, num_tested: int) -> bool:
    if isinstance(score, Interval):
        return score.low > chance
    return score > chance + 1.96 * math.sqrt(chance * (1 - chance) / num_tested)


def _windows(rows: Sequence[Row], num_steps: int) -> list[tuple[int, float]]:
    """The mean loss of at least ten steps at a time, and at most fifty such times, with the step each ends at."""
    size = max(WINDOW_STEPS, num_steps / MAX_WINDOWS)
    windows, total, count, before = [], 0.0, 0, 0
    for row in rows:
        if "loss" not in row:
            continue
        step = int(row["step"])
        total, count, before = total + row["loss"] * (step - before), count + step - before, step
        if count >= size:
            windows.append((step, total / count))
            total, count = 0.0, 0
    if count and (count >= size / 2 or not windows):
        windows.append((before, total / count))
    return windows


def _standing(stage: Stage, losses: Sequence[tuple[int, float]], step: int) -> str:
    """Where the loss is what it is without any knowledge, or above and not sinking."""
    nothing, now = stage.uninformed, _newest(losses)
    if nothing is None or now < (1 - NEAR) * nothing:
        return ""
    if now > (1 + NEAR) * nothing and now < 0.9 * losses[0][1]:
        return ""
    return f"the loss is {now:.3f} after {step:,} steps, and {nothing:.3f} would be that of a model that knows nothing"


def _better_than_nothing(stage: Stage, scores: Row, guessed: str) -> bool:
    """Whether an evaluation shows that something was learned, whatever the training loss is."""
    nothing = stage.uninformed_validation
    sunk = nothing is not None and scores.get("val_loss", math.inf) < (1 - NEAR) * nothing
    told_apart = bool(stage.by_chance) and stage.num_tested >= FEWEST_TESTED and not guessed
    return sunk or told_apart


def _newest(losses: Sequence[tuple[int, float]]) -> float:
    """The mean of the last fifth."""
    last = losses[-max(1, len(losses) // 5) :]
    return sum(loss for _, loss in last) / len(last)


def _jump(stage: Stage, losses: Sequence[tuple[int, float]]) -> str:
    """Where the loss has lost what it had gained, or more, and has not come back."""
    if stage.loss_grows or len(losses) < 3:
        return ""
    first, now = losses[0][1], losses[-1][1]
    lowest = min(loss for _, loss in losses)
    had_learned = lowest < LESS_LEARNED * first
    if now > 1.5 * first or (had_learned and now > (first + lowest) / 2):
        at = max(range(1, len(losses)), key=lambda number: losses[number][1] - losses[number - 1][1])
        (_, before), (step, _) = losses[at - 1 : at + 1]
        after = max(loss for _, loss in losses[at : at + 2])  # it may have begun within a window
        return f"the loss jumped from {before:.3f} to {after:.3f} at about step {step:,}"
    return ""


def _overfitting(stage: Stage, losses: Sequence[tuple[int, float]], scores: Sequence[Row]) -> str:
    """Where the score, or the validation loss without a better score, gets worse while the training loss sinks."""
    if len(scores) <= WORSE_EVALUATIONS:
        return ""
    best = max(scores, key=lambda row: row[stage.score])
    noise = 1.96 * math.sqrt(best[stage.score] * (1 - best[stage.score]) / max(1, stage.num_tested))
    lowest = min(scores, key=lambda row: row.get("val_loss", math.inf))
    last = scores[-WORSE_EVALUATIONS:]
    told = ""
    if best not in last and all(row[stage.score] < best[stage.score] - noise for row in last):
        highest, now = percent(best[stage.score]), percent(last[-1][stage.score])
        told = f"{stage.score.replace('_', ' ')} fell from {highest} % at step {best['step']:,} to {now} %"
    elif "val_loss" in lowest and lowest not in last:
        best = lowest
        risen = all(row["val_loss"] > RISEN_LOSS * lowest["val_loss"] for row in last)
        if risen and all(row[stage.score] <= lowest[stage.score] + noise for row in last):
            told = (
                f"the validation loss rose from {lowest['val_loss']:.3f} at step {lowest['step']:,} to "
                f"{last[-1]['val_loss']:.3f}, and no score got better"
            )
    then = [loss for step, loss in losses if step <= best["step"]] or [losses[0][1]]
    if not told or _newest(losses) >= then[-1]:
        return ""
    kept = "the best weights are kept" if stage.keeps_best else "train.keep=best would have kept those"
    return f"{told}, while the training loss went on to sink: over-fitting ({kept})"


def _clamped(stage: Stage, rows: Sequence[Row]) -> str:
    """Where the temperature ends at a bound that it did not start at."""
    temperatures = [(int(row["step"]), row["temperature"]) for row in rows if "temperature" in row]
    for word, bound in TEMPERATURE_BOUNDS.items():
        at_bound = [math.isclose(value, bound, rel_tol=1e-3) for _, value in temperatures]
        if at_bound and at_bound[-1] and not math.isclose(stage.settings.temperature, bound, rel_tol=1e-3):
            step = temperatures[at_bound.index(True)][0]
            return f"the temperature has been at its {word} bound of {bound:g} since about step {step:,}"
    return ""


def _with_causes(stage: Stage, found: dict[str, str], losses: Sequence[tuple[int, float]]) -> dict[str, str]:
    """Each with what is likely behind it; where nothing is learned, that is behind all of it, and said once."""
    moved = "jump" in found or abs(_newest(losses) - losses[0][1]) > MOVED * losses[0][1]
    failed = next((name for name in ("jump", "standing", "chance") if name in found), None)
    for name in [*found] if failed is None else [failed]:
        kind: Kind = "overfitting" if name == "overfitting" else "failed"
        if name == "temperature":
            kind = "warm" if "upper" in found[name] else "cold"
        found[name] += f". {likely_causes(kind, stage.settings, diverged=moved)}"
    return found
