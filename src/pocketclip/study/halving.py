"""Successive halving: runs go on from rung to rung, at each of which the better ones are kept.

Every run has its whole schedule and waits at the rungs of it, so that those that are kept end as if nobody had looked.
A rung is decided once all runs have come to it or failed, however many processes work, and once for all: what is
decided lies in the study's folder.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from pocketclip.config import Config
from pocketclip.errors import UserError, and_known
from pocketclip.evaluate.recalls import CORRECTED
from pocketclip.evaluate.tasks import embedding_task
from pocketclip.recipe import Recipe
from pocketclip.study.claims import first_writer
from pocketclip.train.rates import is_loss

FOLDER = "halving"


@dataclass(frozen=True)
class Rung:
    """Where runs of a study wait for each other."""

    number: int
    share: float
    """Of the steps."""

    @property
    def file(self) -> str:
        """In the folder of a run that has come so far."""
        return f"rung-{self.number}.json"


class HalvingConfig(Config):
    """The `halving` section of a study."""

    rungs: tuple[Annotated[float, Field(gt=0, le=1)], ...]
    """Shares of each run's steps, of its last stage where it has several; the last is 1."""
    keep: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the cells that go on at each rung, of those that have a score; at least one does."""
    metric: str | None = None
    """By which they are judged, of the validation split; None for the mean recall, or the task's first score."""

    @model_validator(mode="after")
    def _rungs_go_up_to_the_end(self) -> Self:
        if len(self.rungs) < 2 or self.rungs[-1] != 1 or any(low >= high for low, high in pairwise(self.rungs)):
            raise ValueError(f"rungs go up and end with 1, such as [0.25, 0.5, 1] (got {list(self.rungs)})")
        return self

    def waits(self) -> list[Rung]:
        """All rungs but the end."""
        return [Rung(number, share) for number, share in enumerate(self.rungs[:-1])]


def metric_of(halving: HalvingConfig, recipe: Recipe, place: str) -> str:
    """What runs are judged by; a UserError where it is not measured during training."""
    task = embedding_task(recipe.objective.needs.task)
    named = dict.fromkeys([*task.means, *task.scores, *task.labels, "val_loss"])
    known = [name for name in named if not name.startswith(CORRECTED)]  # by a bank, which is made at the end
    if halving.metric is None:
        return known[0]
    if halving.metric not in known:
        raise UserError(f"{place}: halving.metric: {halving.metric} is not measured.{and_known(halving.metric, known)}")
    return halving.metric


def decide(
    study: Path, rung: Rung, scores: Mapping[str, float], *, keep: float, metric: str, order: Sequence[str]
) -> dict[str, str]:
    """Which cells end at a rung, by their folders, each with the reason in words.

    `scores` are those of the cells that have one, means over seeds; cells without one failed and are not judged. A
    cell that comes to a rung that was decided before is measured by the cut of then.
    """
    sign = 1 if is_loss(metric) else -1
    ranked = sorted(scores, key=lambda cell: (sign * scores[cell], order.index(cell)))
    kept = ranked[: max(1, math.ceil(keep * len(ranked) - 1e-9))]
    if not kept:
        return {}
    cut = {"metric": metric, "cut": scores[kept[-1]], "kept": kept, "ended": ranked[len(kept) :]}
    path = study / FOLDER / f"rung-{rung.number}.json"
    decided = first_writer(path, cut)
    if decided.get("metric") != metric:
        raise UserError(
            f"{path}: was decided by {decided.get('metric')}, and halving.metric is {metric} now; choose another --out."
        )
    level, on = float(decided["cut"]), set(decided["kept"])
    return {
        cell: f"stopped early at rung {rung.number + 1}, {100 * rung.share:g} % of its steps: {metric} "
        f"{scores[cell]:.4g}, and the cut was {level:.4g}"
        for cell in ranked
        if cell not in on and (cell in decided["ended"] or sign * scores[cell] > sign * level)
    }
