"""What is likely behind a training that went wrong, the likeliest first."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

HIGH_RATE, LOW_RATE = 0.03, 1e-6
"""Of AdamW: rates beyond these rarely suit any part."""
SMALL_BATCH = 8
FEW_STEPS = 100
USUAL_TEMPERATURES = (0.005, 0.3)
MOST_TOLD = 3
PAGE = "docs/recipes.md, When nothing is learned"
Kind = Literal["failed", "overfitting", "cold", "warm"]


@dataclass(frozen=True)
class Settings:
    """Those of a stage that a training fails by."""

    rates: Mapping[str, float] = field(default_factory=dict)
    """By part, of those that are trained."""
    num_steps: int = 1000
    batch_size: int = 256
    temperature: float = 0.07
    """At the start."""
    random_and_frozen: tuple[str, ...] = ()
    """Towers that have neither pretrained weights nor a rate."""
    shared_captions: bool = False


def likely_causes(kind: Kind, settings: Settings, *, diverged: bool) -> str:
    """A sentence; `diverged` where the loss of a training that failed did move."""
    if kind == "overfitting":
        causes = ["too many steps for so few pictures", "too little augmentation or dropout", "a rate that is too high"]
    elif kind == "cold":
        causes = ["long training on many pictures, where it is usual", "a rate that is too high", "over-fitting"]
    elif kind == "warm":
        causes = ["a rate that is too high", "captions that do not tell the pictures apart, or belong to others"]
    else:
        causes = _of_nothing_learned(settings, diverged=diverged)[:MOST_TOLD]
    return f"Likely causes, in this order: {'; '.join(causes)} (see {PAGE})"


def _of_nothing_learned(settings: Settings, *, diverged: bool) -> list[str]:
    """First what the settings prove, then the usual order."""
    rates = ", ".join(f"{part} {rate:g}" for part, rate in settings.rates.items())
    if len(set(settings.rates.values())) == 1:
        rates = f"{max(settings.rates.values()):g}"
    high, low = f"a learning rate that is too high ({rates})", f"a learning rate that is too low ({rates})"
    coldest, warmest = USUAL_TEMPERATURES
    proven = {
        high: any(rate > HIGH_RATE for rate in settings.rates.values()),
        low: all(rate < LOW_RATE for rate in settings.rates.values()),
        f"{' and '.join(settings.random_and_frozen)} frozen at random weights": bool(settings.random_and_frozen),
        f"too few steps ({settings.num_steps:,})": settings.num_steps < FEW_STEPS,
        "captions that several pictures share": settings.shared_captions,
        f"a batch that is too small ({settings.batch_size})": settings.batch_size < SMALL_BATCH,
        f"a temperature that is unusual ({settings.temperature:g})": not coldest <= settings.temperature <= warmest,
    }
    shifted = "captions that belong to other pictures, such as rows shifted by one"
    usual = [high, shifted] if diverged or proven[high] else [shifted, low, high]
    if proven[low]:
        usual = [shifted]
    return list(dict.fromkeys([*(cause for cause, is_so in proven.items() if is_so), *usual]))
