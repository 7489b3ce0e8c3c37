"""Drawn curves: healthy ones say nothing, the others are named with what is likely behind them."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pocketclip.records import Interval
from pocketclip.train.causes import Settings, likely_causes
from pocketclip.train.diagnosis import Stage, findings, within_chance

LN32 = math.log(32)
CHANCE = {f"text_to_image_recall@{k}": k / 100 for k in (1, 5, 10)}
STAGE = Stage(
    name="train",
    settings=Settings(rates={"heads": 0.001}, num_steps=1000, batch_size=32),
    warmup_steps=100,
    uninformed=LN32,
    uninformed_validation=LN32,
    by_chance=CHANCE,
    num_tested=100,
)
Curve = Callable[[int], float]


def rows(
    loss: Curve,
    recall: Curve | None = None,
    val_loss: Curve = lambda step: 1.0,
    temperature: Curve = lambda step: 0.06,
    steps: int = 1000,
    noise: float = 0.03,
) -> list[dict[str, Any]]:
    """A line every 10 steps, and an evaluation every 100."""
    random, lines = np.random.default_rng(0), []
    for step in range(10, steps + 1, 10):
        value = loss(step) * (1 + noise * random.standard_normal())
        lines.append({"step": step, "loss": value, "temperature": temperature(step)})
        if recall is not None and step % 100 == 0:
            share = recall(step)
            scores = {name: min(1.0, share * k) for name, k in zip(CHANCE, (1, 5, 10), strict=True)}
            lines.append({"step": step, **scores, "mean_recall": share, "val_loss": val_loss(step)})
    return lines


def falling(start: float, end: float, after: float = 200) -> Curve:
    return lambda step: end + (start - end) * math.exp(-step / after)


def learning(step: int) -> float:
    return 0.4 * (1 - math.exp(-step / 300)) + 0.01


def at(value: float) -> Curve:
    return lambda step: value


def bell(peak: int, height: float, rest: float) -> Curve:
    return lambda step: rest + (height - rest) * math.exp(-(((step - peak) / 150) ** 2))


HEALTHY = {
    "usual": (STAGE, rows(falling(4.2, 0.5), learning, falling(3.4, 1.2))),
    "slow": (STAGE, rows(falling(3.6, 3.1, 1000), lambda step: 0.03 + step / 20_000, falling(3.4, 3.2))),
    "a training loss that dropout keeps up": (STAGE, rows(at(LN32), learning, at(2.0))),
    "a sum that starts far above": (STAGE, rows(falling(29.0, 6.0, 500))),
    "a loss that nobody knows the start of": (replace(STAGE, uninformed=None), rows(at(7.0), learning)),
    "a queue that is filled": (
        replace(STAGE, uninformed=None, loss_grows=True),
        rows(lambda step: 5 + step / 200, learning),
    ),
    "scores that waver within noise": (STAGE, rows(falling(4, 0.5), lambda step: 0.3 - 0.04 * (step > 600), at(1.0))),
    "a validation loss that rises beside better scores": (
        STAGE,
        rows(falling(4, 0.5), learning, lambda step: 1.0 + step / 500),
    ),
    "a temperature that started at its bound": (
        replace(STAGE, settings=replace(STAGE.settings, temperature=0.01)),
        rows(falling(4, 0.5), learning, at(1.0), at(0.01)),
    ),
    "memorised, with a hard batch": (
        STAGE,
        rows(lambda step: 0.02 + 0.3 * (step == 900) + 4 * math.exp(-step / 60), learning),
    ),
    "a gallery that tells nothing": (
        replace(STAGE, num_tested=5, uninformed=None),
        rows(falling(2, 0.1), at(0.01), steps=500),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_stage_is_silent_at_any_time(name: str) -> None:
    stage, lines = HEALTHY[name]
    stage = replace(stage, settings=replace(stage.settings, num_steps=int(lines[-1]["step"])))
    for count in range(1, len(lines) + 1):
        assert findings(stage, lines[:count], over=False) == {}, lines[count - 1]["step"]
    assert findings(stage, lines, over=True) == {}


def test_the_start_of_a_long_training_is_not_called_standing() -> None:
    lines = rows(at(LN32), at(0.01), at(LN32), steps=500)
    long = replace(STAGE, warmup_steps=2000, settings=replace(STAGE.settings, num_steps=20_000))
    assert findings(long, lines, over=False) == {}
    assert findings(replace(long, warmup_steps=100), lines, over=False).keys() == {"standing"}


@pytest.mark.parametrize(
    ("lines", "names", "told"),
    [
        (rows(at(LN32), at(0.01), at(LN32), noise=0.001), ["standing"],
         "loss is 3.46. after 1,000 steps, and 3.466 would be that of a model that knows nothing"),
        (rows(at(4.8), at(0.01), at(4.8)), ["standing"], "loss is 4.[78].. after 1,000"),
        (rows(lambda step: LN32 + 2 * math.exp(-step / 10)), ["standing"], "a learning rate that is too high"),
        (rows(lambda step: falling(3.6, 1.0)(step) if step < 600 else 3.5), ["jump", "standing"],
         "jumped from [12].* to 3.5.. at about step 6.0"),
        (rows(lambda step: 3.5 if step < 300 else 50.0), ["jump", "standing"],
         "jumped from 3.* to [45].* at about step 300.*: a learning rate that is too high .0.001.; captions"),
        (rows(falling(4, 0.2), bell(300, 0.6, 0.2), at(1.0)), ["overfitting"],
         "mean recall fell from 60.0 % at step 300 to 20.* %, while .* over-fitting .train.keep=best would"),
        (rows(falling(4, 0.2), at(0.2), lambda step: 1 + abs(step - 300) / 500), ["overfitting"],
         "validation loss rose from 1.000 at step 300 to 2.400, and no score got better, while"),
        (rows(falling(4, 0.5), learning, at(1.0), lambda step: max(0.01, 0.06 - step / 10_000)), ["temperature"],
         "lower bound of 0.01 since about step 500.*Likely.*long training"),
        (rows(falling(4, 0.5), learning, at(1.0), lambda step: min(1.0, step / 100)), ["temperature"],
         "upper bound of 1 since about step 100"),
    ],
)  # fmt: skip
def test_what_went_wrong_is_named_with_its_causes(lines: Sequence[dict[str, Any]], names: list[str], told: str) -> None:
    found = findings(STAGE, lines, over=True)
    assert list(found) == names
    first = found[names[0]]
    assert re.search(told, first), first
    assert first.startswith("train: ")
    assert "Likely causes, in this order: " in first
    assert first.count(". ") == 1  # two sentences at most


def test_scores_by_chance_are_told_early_where_no_loss_says_so() -> None:
    unknown = replace(STAGE, uninformed=None, uninformed_validation=None)
    lines = rows(at(7.0), at(0.01))
    early = findings(unknown, lines[:60], over=False)
    assert early["chance"].startswith(
        "train: after 550 steps, text to image recall@1 is 1.0 %, where guessing gives 1.0 %. "
    )
    assert findings(unknown, lines, over=True) == {}  # the records' intervals say it then


def test_the_best_weights_may_have_been_kept() -> None:
    lines = rows(falling(4, 0.2), bell(300, 0.6, 0.2), at(1.0))
    told = findings(replace(STAGE, keeps_best=True), lines, over=True)["overfitting"]
    assert "the best weights are kept" in told


def test_nothing_is_said_before_a_loss_is_known() -> None:
    assert findings(STAGE, [], over=True) == {}
    assert findings(STAGE, [{"step": 5, "mean_recall": 0.0}], over=False) == {}


def whole(value: float, low: float, high: float) -> Interval:
    return Interval(value=value, low=low, high=high)


IS, BY_GUESSING = "text to image recall@1 is", "where guessing gives 1.0 %"
FAR = {"text_to_image_recall@5": whole(0.2, 0.1, 0.3), "text_to_image_recall@10": whole(0.1, 0.05, 0.2)}


@pytest.mark.parametrize(
    ("scores", "tested", "told"),
    [
        ({"text_to_image_recall@1": whole(0.02, 0.0, 0.05)}, 100, f"{IS} 2.0 [0.0, 5.0] %, {BY_GUESSING}"),
        ({"text_to_image_recall@1": whole(0.0, 0.0, 0.0)}, 100, f"{IS} 0.0 [0.0, 0.0] %, {BY_GUESSING}"),
        ({"text_to_image_recall@1": whole(0.04, 0.015, 0.05)}, 100, ""),
        ({"text_to_image_recall@1": whole(0.02, 0.0, 0.05), **FAR}, 100, ""),
        ({"text_to_image_recall@1": whole(0.02, 0.0, 0.05)}, 8, ""),
        ({"text_to_image_recall@1": 0.02}, 100, f"{IS} 2.0 %, {BY_GUESSING}"),
        ({"text_to_image_recall@1": 0.04}, 100, ""),
        ({"accuracy": 0.5}, 100, ""),
        ({}, 100, ""),
    ],
)  # fmt: skip
def test_a_score_is_told_from_guessing_by_its_interval(scores: dict[str, Any], tested: int, told: str) -> None:
    assert within_chance(scores, CHANCE, tested) == told


SETTINGS = Settings(rates={"heads": 0.001}, num_steps=1000, batch_size=32)


@pytest.mark.parametrize(
    ("settings", "diverged", "first"),
    [
        (replace(SETTINGS, rates={"heads": 5.0}), True, "a learning rate that is too high (5)"),
        (replace(SETTINGS, rates={"heads": 5.0, "text_encoder": 1e-3}), False,
         "a learning rate that is too high (heads 5, text_encoder 0.001)"),
        (replace(SETTINGS, rates={"heads": 1e-8}), False, "a learning rate that is too low (1e-08)"),
        (SETTINGS, True, "a learning rate that is too high (0.001)"),
        (SETTINGS, False, "captions that belong to other pictures, such as rows shifted by one"),
        (replace(SETTINGS, num_steps=12), False, "too few steps (12)"),
        (replace(SETTINGS, batch_size=4), False, "a batch that is too small (4)"),
        (replace(SETTINGS, temperature=1.0), False, "a temperature that is unusual (1)"),
        (replace(SETTINGS, shared_captions=True), False, "captions that several pictures share"),
        (replace(SETTINGS, random_and_frozen=("image_encoder",)), False, "image_encoder frozen at random weights"),
    ],
)  # fmt: skip
def test_what_the_settings_prove_comes_first(settings: Settings, diverged: bool, first: str) -> None:
    told = likely_causes("failed", settings, diverged=diverged)
    assert told.startswith(f"Likely causes, in this order: {first}; ")
    assert told.endswith("(see docs/recipes.md, When nothing is learned)")
    assert told.count("; ") <= 2
